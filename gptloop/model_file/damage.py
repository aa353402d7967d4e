"""How a file that is not as it should be is told: the file first, then the entry, the value and the bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SHOWN = 80


def shown(value: Any) -> str:
    """A value out of a file, in printable characters and never at full length."""
    text = ascii(value[: SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def damaged(path: Path, what: str) -> ValueError:
    """The error of a file that does not hold what it should."""
    return ValueError(f"{path} is damaged: {what}")
