"""Files are read whole or refused in one line, and written whole or not at all."""

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
