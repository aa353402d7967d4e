"""Files are written whole, or not at all."""

import pytest

from gptloop.report.disk import write_files
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
