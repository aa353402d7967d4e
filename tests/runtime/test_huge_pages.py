"""Huge pages: what a process got is moved to them and stays what it was; where there are none, nothing happens."""

from __future__ import annotations

import ctypes
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gptloop import OnnxLoop
from gptloop.cli import main
from gptloop.runtime import huge_pages
from gptloop.runtime.huge_pages import Span, on_huge_pages

IDS = np.random.default_rng(0).integers(0, 97, (2, 5))
HUGE = 2 << 20
MB = 1 << 20

MEASURED = """
import re, sys
from pathlib import Path
from gptloop.runtime.huge_pages import on_huge_pages

def on_huge():
    return 1024 * int(re.search(r"^AnonHugePages:\\s+(\\d+) kB$", Path("/proc/self/smaps_rollup").read_text(), re.M)[1])

# Not numpy's, which asks for huge pages itself.
theirs = b"a" * (32 << 20)
before = on_huge()
with on_huge_pages():
    ours = b"b" * (64 << 20)
assert theirs.count(b"a") == len(theirs) and ours.count(b"b") == len(ours)
print(on_huge() - before)
"""


@pytest.fixture(scope="module")
def moved() -> int:
    """Bytes that a process of its own finds on huge pages behind 64 MB that it filled."""
    if not huge_pages.huge_page_bytes():
        pytest.skip("the system has no huge pages, or is set to never give any")
    if tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2]) < (6, 1):
        pytest.skip(f"Linux moves memory to huge pages from 6.1, this is {platform.release()}")
    return int(subprocess.run([sys.executable, "-c", MEASURED], check=True, capture_output=True, text=True).stdout)


def test_what_comes_in_the_meantime_is_moved_and_nothing_else(moved):
    assert 56 * MB <= moved <= 64 * MB + 8 * MB


def test_addresses_are_compared_exactly():
    before = [Span(10, 20), Span(30, 40), Span(50, 60)]
    after = [Span(0, 5), Span(8, 34), Span(36, 45), Span(50, 60), Span(70, 80)]
    parts = [span for span in huge_pages._without(after, before) if span.start < span.end]
    assert parts == [(0, 5), (8, 10), (20, 30), (40, 45), (70, 80)]


def test_only_private_memory_of_no_file_is_touched(tmp_path, monkeypatch):
    maps = tmp_path / "maps"
    maps.write_text(
        "1000-2000 rw-p 00000000 00:00 0 \n"
        "2000-3000 r--p 00000000 00:00 0 \n"
        "3000-4000 rw-p 00000000 08:01 77 /lib/a library.so\n"
        "4000-5000 rw-p 00000000 00:00 0 [heap]\n"
        "5000-6000 rw-s 00000000 00:01 9 /dev/zero (deleted)\n"
        "7ff000-800000 rw-p 00000000 00:00 0 [stack]\n"
    )
    monkeypatch.setattr(huge_pages, "MAPS", maps)
    assert huge_pages._anonymous() == [(0x1000, 0x2000), (0x4000, 0x5000)]


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Path:
    """A system's settings, to be changed."""
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    (tmp_path / "hpage_pmd_size").write_text(f"{HUGE}\n")
    monkeypatch.setattr(huge_pages, "SETTINGS", tmp_path)
    return tmp_path


def test_whole_huge_pages_are_asked_for(settings, monkeypatch):
    asked = advised(monkeypatch, [Span(HUGE - 1, 4 * HUGE + 1), Span(5 * HUGE, 6 * HUGE - 1)])
    with on_huge_pages():
        assert asked == []
    assert asked == [(HUGE, 3 * HUGE, huge_pages.MADV_COLLAPSE)]


def test_an_owner_who_wants_none_gets_none(settings, monkeypatch):
    asked = advised(monkeypatch, [Span(0, 4 * HUGE)])
    (settings / "enabled").write_text("always madvise [never]\n")
    with on_huge_pages():
        pass
    assert asked == []


def test_a_system_without_any_does_nothing(tmp_path, monkeypatch, tiny):
    asked = advised(monkeypatch, [Span(0, 4 * HUGE)])
    monkeypatch.setattr(huge_pages, "SETTINGS", tmp_path / "missing")
    np.testing.assert_array_equal(tokens(OnnxLoop(tiny.path, device="cpu")), tokens(tiny.onnx))
    assert asked == []


def test_a_loop_asks_for_them_unless_told_not_to(settings, monkeypatch, tiny):
    asked = advised(monkeypatch, [Span(0, 4 * HUGE)])
    OnnxLoop(tiny.path, device="cpu", huge_pages=False)
    assert asked == []
    OnnxLoop(tiny.path, device="cpu")
    assert len(asked) == 1


def test_the_command_line_asks_for_them_only_when_told_to(settings, monkeypatch, tiny, capsys):
    """Its process ends before they pay."""
    asked = advised(monkeypatch, [Span(0, 4 * HUGE)])
    command = ["generate", str(tiny.path), "--ids", "1,2", "--seed", "1"]
    assert main(command) == 0
    assert asked == []
    assert main([*command, "--huge-pages"]) == 0
    assert len(asked) == 1
    alone, other = capsys.readouterr().out.splitlines()
    assert alone == other
    with pytest.raises(SystemExit, match="2"):
        main([*command, "--huge-pages", "--no-prepack"])  # then nothing is packed
    assert "not allowed with" in capsys.readouterr().err


def test_no_plan_of_a_steps_memory_is_kept(tiny):
    assert not OnnxLoop(tiny.path, device="cpu").session.get_session_options().enable_mem_pattern


def test_what_fails_is_not_moved(settings, monkeypatch):
    asked = advised(monkeypatch, [Span(0, 4 * HUGE)])
    with pytest.raises(RuntimeError, match="no such model"), on_huge_pages():
        raise RuntimeError("no such model")
    assert asked == []


def advised(monkeypatch, spans):
    """What is asked of the kernel, in the place of asking; the process gets the spans in the meantime."""
    asked = []

    class Library:
        def __init__(self, name):
            def madvise(start, length, advice):
                asked.append((start, length, advice))
                return 0

            self.madvise = madvise

    found = iter([[], spans])
    monkeypatch.setattr(huge_pages, "_anonymous", lambda: next(found))
    monkeypatch.setattr(ctypes, "CDLL", Library)
    return asked


def tokens(loop):
    return loop.generate(IDS, max_new_tokens=6)
