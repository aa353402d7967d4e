"""Notes beside the runs: read whole, or refused in words that name the file."""

import re

import pytest
from report_runs import pair, run, save

from gptloop.report.command import main
from gptloop.report.errors import ReportError
from gptloop.report.notes import read_notes

RUNS = ["m/0001_a.json", "m/0002_b.json", "n/0001_c.json", "m/00021_d.json"]


def notes(folder, content: str) -> dict[str, str]:
    (folder / "notes.toml").write_text(content, encoding="utf-8")
    return read_notes(folder, RUNS)


def test_a_note_is_of_the_run_with_its_number(tmp_path):
    assert notes(tmp_path, '[notes]\n"m/0002" = "slower"\n"n/0001" = "faster"') == {
        "m/0002_b.json": "slower",
        "n/0001_c.json": "faster",
    }


def test_without_the_file_there_are_none(tmp_path):
    assert read_notes(tmp_path, RUNS) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[notes]\n"m/0001_run" = "x"', "'m/0001_run' is the number of 0 runs, expected one (MACHINE/NNNN)"),
        ('[notes]\n"m/0003" = "x"', "'m/0003' is the number of 0 runs, expected one (MACHINE/NNNN)"),
        ('[notes]\n"m/0001" = 3', "the note on 'm/0001' is 3, expected printable text"),
        ('[notes]\n"m/0001" = "a\\u0007"', "the note on 'm/0001' is 'a\\x07', expected printable text"),
        ('"m/0001" = "x"', "expected one table, [notes]"),
        ("notes = 1", "expected one table, [notes]"),
        ("[notes]\n[more]", "expected one table, [notes]"),
        ("[notes", "not valid TOML: "),
    ],
)
def test_what_is_no_note_is_refused(tmp_path, content, words):
    with pytest.raises(ReportError, match=re.escape(f"{tmp_path / 'notes.toml'}: {words}")):
        notes(tmp_path, content)


def test_the_command_shows_them_and_leaves_the_folder_as_it_was_where_they_are_wrong(tmp_path, capsys):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    (tmp_path / "notes.toml").write_text('[notes]\n"m/0001" = "a new way"')
    assert main([str(tmp_path)]) == 0
    (history,) = (tmp_path / "charts").glob("history-*.svg")
    assert "1: a new way" in history.read_text()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "notes.toml").write_text('[notes]\n"m/0009" = "a new way"')
    before[tmp_path / "notes.toml"] = (tmp_path / "notes.toml").read_bytes()
    capsys.readouterr()
    assert main([str(tmp_path)]) == 2
    assert "0009" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
