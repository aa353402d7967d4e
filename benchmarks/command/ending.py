"""How a command ends: with 0, or its own verdict, or one line and 2; and what it prints until then.

1 means a regression (of benchmarks.gpu: that a stage failed), so nothing else may end with it: not what nobody
expected, not a full disk behind standard output. 130 and 143 say that a signal ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TextIO

from gptloop.console import one_line, reader_may_leave

_EXPECTED = (RuntimeError, ValueError, OSError)  # whose words were written for the reader


class StoppedError(BaseException):
    """A signal asks the process to end. Like KeyboardInterrupt, nothing but cleaning up is to catch it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def run(name: str, command: Callable[[], int]) -> int:
    """Run a command to its end.

    Args:
        name: Of the command, for its messages.
        command: Gives its exit status. What it holds in `with` is released, whatever ends it.

    Returns:
        That status; 2 for whatever it raised, said in one line; 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        with _signals_raise():
            return command()
    except KeyboardInterrupt:
        words, status = "stopped", 130
    except StoppedError as error:
        words, status = f"stopped by {error}", error.status
    except Exception as error:
        words, status = _words(error), 2
    _write(sys.stderr, f"{name}: {words}")
    return status


class Parser(argparse.ArgumentParser):
    """An argument parser whose messages are one line of bounded length."""

    def error(self, message: str) -> NoReturn:
        """End with 2."""
        super().error(one_line(message))


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


def print_result(text: str) -> None:
    """Print to standard output; without a word if its reader has left.

    Raises:
        RuntimeError: If it is closed, or cannot be written.
    """
    if sys.stdout is None:
        raise RuntimeError("standard output is closed, and was to take the result")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding lacks
    try:
        with reader_may_leave():
            print(text)
    except OSError as error:
        _discard(sys.stdout)
        raise RuntimeError(f"standard output: cannot be written: {error.strerror}") from error


def say_after(start_s: float) -> Callable[[str], None]:
    """Prints lines of progress with the seconds since a start of `time.monotonic`."""
    return lambda text: _write(sys.stderr, f"[{time.monotonic() - start_s:6.1f} s] {text}")


def _write(stream: TextIO | None, line: str) -> None:
    """Progress and messages are written where that is possible: without them, a command goes on."""
    if stream is None:
        return
    try:
        print(line, file=stream, flush=True)
    except OSError:
        _discard(stream)


def _discard(stream: TextIO) -> None:
    """Let nobody try again what could not be written: the interpreter would at its end, and exit with 120."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _words(error: Exception) -> str:
    if isinstance(error, _EXPECTED) and str(error).strip():
        return one_line(str(error))
    place = traceback.extract_tb(error.__traceback__)[-1]
    return one_line(f"unexpected {type(error).__name__}: {error} ({os.path.basename(place.filename)}:{place.lineno})")


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """SIGTERM and a closed terminal end the process as Ctrl-C does: through every `with` and `finally`."""

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would cut the cleaning up
        raise StoppedError(number)

    before: dict[int, Any] = {}
    try:
        for number in (int(signal.SIGTERM), int(signal.SIGHUP)):
            # Whoever ignores a signal, as nohup does, wants it ignored.
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
