"""Files are read whole or refused in one line, and written whole or not at all."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from gptloop.report.disk import read_json, read_toml, write_files
from gptloop.report.errors import ReportError


def test_files_are_written_whole_and_nothing_else_is_left(tmp_path):
    write_files(tmp_path, {"charts/a.svg": b"one", "summary.md": b"two"})
    write_files(tmp_path, {"charts/a.svg": b"three"})
    written = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"charts/a.svg": b"three", "summary.md": b"two"}


def test_if_one_file_cannot_be_written_none_is(tmp_path):
    (tmp_path / "summary.md").mkdir()
    (tmp_path / "a.svg").write_bytes(b"earlier")
    with pytest.raises(ReportError, match=r"summary\.md: cannot be written"):
        write_files(tmp_path, {"a.svg": b"later", "summary.md": b"later"})
    assert (tmp_path / "a.svg").read_bytes() == b"earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "summary.md"]


@pytest.mark.parametrize("read", [read_json, read_toml])
@pytest.mark.parametrize("content", [None, b"\xff", b"{", b"a = " + b"[" * 100_000])
def test_what_cannot_be_read_is_named(tmp_path, read, content):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReportError, match=r"file: (cannot be read|not valid (JSON|TOML))"):
        read(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_plain_file_is_not_opened(tmp_path, make):
    make(tmp_path / "file")
    with pytest.raises(ReportError, match=r"file: cannot be read: it is no plain file"):
        read_json(tmp_path / "file")


def test_a_file_without_end_is_not_read(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(10**12)  # which takes no space
    with pytest.raises(ReportError, match=r"it has 1,000,000,000,000 bytes, at most 256,000,000 are read"):
        read_json(tmp_path / "file")


def test_nothing_is_written_through_a_link_to_elsewhere(tmp_path):
    reports, elsewhere = tmp_path / "reports", tmp_path / "elsewhere"
    for folder in (reports, elsewhere):
        folder.mkdir()
    (reports / "charts").symlink_to(elsewhere)
    with pytest.raises(ReportError, match=r"charts/a\.svg: cannot be written: its folder is a link to elsewhere"):
        write_files(reports, {"summary.md": b"one", "charts/a.svg": b"two"})
    assert [*elsewhere.iterdir(), *reports.iterdir()] == [reports / "charts"]


KILLED = """
import os, signal, sys
from pathlib import Path
from gptloop.report import disk
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # all is staged, and nothing moved
disk.write_files(Path(sys.argv[1]), {"charts/a.svg": b"one", "summary.md": b"two"})
"""


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len([path for path in tmp_path.rglob(".*") if path.is_file()]) == 2
    strange = tmp_path / ".gptloop-report-folder.tmp"
    strange.mkdir()  # of a name like ours, and no file
    write_files(tmp_path, {"charts/a.svg": b"three", "summary.md": b"four"})
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"charts", "charts/a.svg", "summary.md", strange.name}


def test_a_full_disk_is_named_with_the_file(tmp_path):
    """Stood in for by a limit on the size of files, which gives an error of the same kind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ReportError, match=r"summary\.md: cannot be written: File too large"):
            write_files(tmp_path, {"a.svg": b"small", "summary.md": b"x" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []
