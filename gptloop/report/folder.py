"""Which files of a folder are saved runs.

Knows names and kinds of files, and what gptloop itself writes beside runs; reads no run. Whatever else lies there is
left out with a word, so that a stranger's file costs nobody the report.
"""

import itertools
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from gptloop.report.disk import read_json
from gptloop.report.errors import ReportError

# So many, of 31 contenders and cases each, are read and drawn in 15 s on two cores.
MOST_RUNS = 1000

_RUN_NAME = re.compile(r"(\d{4,})_.*\.json")

Say = Callable[[str], object]


def say_nothing(_: str) -> None:
    """For callers who do not ask what was left out."""


def run_files(folder: Path, say: Say) -> list[Path]:
    """The files of the saved runs below a folder: `MACHINE/NNNN_*.json`, plain files inside it.

    Args:
        folder: The report's.
        say: Is told of each other JSON file in a line, unless gptloop itself wrote it, and of the runs beyond
            `MOST_RUNS`, of which those with the highest numbers are taken.

    Returns:
        Paths in the order of their names.

    Raises:
        ReportError: If there is no such folder.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder}: not a folder" if folder.exists() else f"{folder}: no such folder")
    by_machine: dict[Path, list[Path]] = {}
    count = 0
    for path in _json_files(folder, say):
        if trouble := _no_plain_file(path, folder):
            say(f"{path}: left out: {trouble}")
        elif path.parent.parent == folder and _RUN_NAME.fullmatch(path.name):
            by_machine.setdefault(path.parent, []).append(path)
            count += 1
        elif not _is_our_own(path):
            say(f"{path}: left out: neither a run (MACHINE/NNNN_*.json) nor marked with gptloop_kind")
    if count > MOST_RUNS:
        say(f"{folder}: {count - MOST_RUNS:,} of {count:,} runs are left out: those with the lowest numbers")
    newest_first = [sorted(paths, key=_newest_first) for paths in by_machine.values()]
    taken = (path for of_age in itertools.zip_longest(*newest_first) for path in of_age if path is not None)
    return sorted(itertools.islice(taken, MOST_RUNS))


def run_number(run: str) -> tuple[str, int]:
    """The folder and the number of a run by its path: pytest-benchmark counts the runs of each folder."""
    machine, _, name = run.rpartition("/")
    found = _RUN_NAME.fullmatch(name)
    return machine, int(found[1]) if found else 0


def _newest_first(path: Path) -> tuple[int, str]:
    return -run_number(path.as_posix())[1], path.name


def _json_files(folder: Path, say: Say) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        say(f"{error.filename}: left out: cannot be read: {error.strerror}")

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in folders:
            if (path := Path(parent, name)).is_symlink():
                say(f"{path}: left out: a link to a folder")
        for name in sorted(names):
            if name.endswith(".json"):
                yield Path(parent, name)


def _no_plain_file(path: Path, folder: Path) -> str | None:
    """Why a file is not to be opened, if so: a pipe would be waited for, a device never ends."""
    try:
        mode = path.stat().st_mode
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return "a link to nothing, or a file that cannot be reached"
    if not stat.S_ISREG(mode):
        return "no plain file"
    return None if inside else "a link out of the folder"


def _is_our_own(path: Path) -> bool:
    """Whether gptloop wrote it; what cannot be read is nobody's."""
    try:
        content = read_json(path)
    except ReportError:
        return False
    return isinstance(content, dict) and "gptloop_kind" in content
