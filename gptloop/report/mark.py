"""Which files the gate may replace: its own, which a mark near their beginning tells."""

import os
from pathlib import Path

from gptloop.report.errors import ReportError

MARK = "gptloop regression gate"
_HEAD_BYTES = 1000  # within which the mark stands


def check_replaceable(path: Path) -> None:
    """Refuse to write over anything but what the gate wrote.

    Raises:
        ReportError: If something else stands there, or there is no folder for it.
    """
    if not path.parent.is_dir():
        raise ReportError(f"{path.parent}: no such folder")
    if os.path.lexists(path) and not _is_ours(path):
        raise ReportError(f"{path}: stands there already, and is not of the gate: name another file")


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK.encode() in file.read(_HEAD_BYTES)
