"""Notes on how runs were measured, which no run can know itself: `notes.toml` beside them.

Each note stands for the first run that was measured in a new way, so that nobody takes the step in a chart for a change
of speed. Knows its own table; refuses what is none.
"""

from collections.abc import Iterable
from pathlib import Path

from gptloop.report.disk import read_toml
from gptloop.report.errors import ReportError
from gptloop.report.records import TEXT, is_text, named

NOTES = "notes.toml"


def read_notes(folder: Path, runs: Iterable[str]) -> dict[str, str]:
    """The notes on a folder's runs.

    Args:
        folder: The report's.
        runs: The runs below it, as the column `run` of `runs.read_runs` names them.

    Returns:
        Words by run; nothing where there is no file. The file's table `notes` has them by a run's path and number, such
        as "Linux-CPython-3.11-64bit/0009".

    Raises:
        ReportError: If the file cannot be read, holds anything else, or names a number that no run has.
    """
    path, names = folder / NOTES, sorted(set(runs))
    if not path.exists():
        return {}
    content = read_toml(path)
    notes = content.pop("notes", None)
    if not isinstance(notes, dict) or content:
        raise ReportError(f"{path}: expected one table, [notes]")
    found = {}
    for number, words in notes.items():
        if not is_text(words):
            raise ReportError(f"{path}: the note on {named(number)} is {named(words)}, expected {TEXT.words}")
        meant = [name for name in names if name.split("_")[0] == number]
        if len(meant) != 1:
            raise ReportError(
                f"{path}: {named(number)} is the number of {len(meant)} runs, expected one (MACHINE/NNNN)"
            )
        found[meant[0]] = words
    return found
