"""What a message repeats of a value that somebody else chose: printable, on one line, and not all of it."""

from __future__ import annotations

from gptloop.console import printable

REPEATED = 200  # characters, about two lines of a terminal


def brief(text: object) -> str:
    """A text as a message may repeat it: without line ends and control characters, cut where it is long."""
    whole = str(text)
    shown = printable(" ".join(whole[:REPEATED].split()))
    return shown if len(whole) <= REPEATED else f"{shown}... ({len(whole)} characters)"
