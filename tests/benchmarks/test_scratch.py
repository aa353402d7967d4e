"""Temporary folders: gone at the end, and those of killed processes with the next command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command.scratch import LOCK, remove_abandoned, scratch

HOLDER = """
import sys
from benchmarks.command.scratch import scratch
with scratch("test") as folder:
    (folder / "large").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """A process that holds a folder, and the folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process, Path(process.stdout.readline().strip())
    process.communicate()


def test_a_folder_stays_while_its_process_lives_and_goes_when_it_was_killed(holder):
    process, folder = holder
    remove_abandoned()
    assert (folder / "large").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.exists()
    remove_abandoned()
    assert not folder.exists()


def test_a_folder_is_gone_at_the_end_whatever_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def fail():
        with scratch("test") as folder:
            assert folder.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", ["open", "rename"])
def test_a_folder_that_cannot_be_locked_is_gone(tmp_path, monkeypatch, fails):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("benchmarks.command.scratch.remove_abandoned", lambda: None)

    plain = getattr(os, fails)

    def full(path, *others, **named):
        if f"{LOCK}.new" in str(path):
            raise OSError("No space left on device")
        return plain(path, *others, **named)

    monkeypatch.setattr(f"os.{fails}", full)
    folder = scratch("test")
    with pytest.raises(OSError, match="No space left"):
        folder.__enter__()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_made_here_stays(tmp_path, monkeypatch):
    """A folder of the same name without a lock, one with a link for a lock, a link to a folder, a file."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    for name in ("tmp/gptloop-plain", "tmp/gptloop-linked-lock", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "elsewhere" / LOCK).write_text("")
    os.symlink(tmp_path / "elsewhere" / LOCK, tmp_path / "tmp" / "gptloop-linked-lock" / LOCK)
    os.symlink(tmp_path / "elsewhere", tmp_path / "tmp" / "gptloop-link")
    (tmp_path / "tmp" / "gptloop-file").write_text("")
    remove_abandoned()
    kept = {path.name for path in (tmp_path / "tmp").iterdir()}
    assert kept == {"gptloop-plain", "gptloop-linked-lock", "gptloop-link", "gptloop-file"}
    assert (tmp_path / "elsewhere" / LOCK).exists()
