"""How a command of the suite ends: `gptloop.ending`, with the signals and the errors that the suite's commands expect.

1 means a regression (of benchmarks.gpu: that a stage failed), so nothing else may end with it: not what nobody
expected, not a full disk behind standard output.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable

from gptloop import ending
from gptloop.console import one_line


def run(name: str, command: Callable[[], int]) -> int:
    """Run a command to its end, as `ending.run`; SIGTERM and a closed terminal end it as Ctrl-C does."""

    def until_signalled() -> int:
        with ending.ended_by(signal.SIGTERM, signal.SIGHUP):
            return command()

    return ending.run(name, until_signalled, RuntimeError, ValueError, OSError)


def whole(least: int, most: int = 100_000) -> Callable[[str], int]:
    """An argument's type: a whole number within bounds."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {one_line(text, 40)!r}") from None
        if not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most}"
            raise argparse.ArgumentTypeError(f"must be {bound}, got {one_line(text, 40)}")
        return value

    return number


def say_after(start_s: float) -> Callable[[str], None]:
    """Prints lines of progress with the seconds since a start of `time.monotonic`."""
    return lambda text: ending.say(f"[{time.monotonic() - start_s:6.1f} s] {text}")
