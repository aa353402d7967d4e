"""How a command ends: with its own exit status, or with 2 and one line on standard error whatever went wrong.

128 and the signal's number say that a signal ended it, 130 that Ctrl-C did. Knows no command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from gptloop.console import one_line, prepare_streams, reader_may_leave

SHOW_TRACEBACK = "GPTLOOP_TRACEBACK"
FAILED = 2


class Signalled(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the command to end."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusals are one line, and do not repeat whatever they were given."""

    def error(self, message: str) -> NoReturn:
        """End with 2."""
        super().error(one_line(message))


def run(name: str, command: Callable[[], int], *expected: type[Exception]) -> int:
    """Run a command to its end.

    Args:
        name: Of the command, for its messages.
        command: Gives its exit status. What it holds in `with` is released, whatever ends it.
        *expected: Errors whose words were written for the reader, by default what input causes: `ValueError` and
            `OSError`. Anything else is somebody's mistake, but no user's, and is said to be unexpected.

    Returns:
        That status; `FAILED` for whatever it raised; 128 and the number of the signal that ended it.

    Raises:
        SystemExit: As the command does, to which argparse's refusals belong.
    """
    prepare_streams()
    try:
        with _plain_warnings(name):
            return command()
    except SystemExit:
        raise
    except BaseException as error:  # panics of libraries in Rust are no Exception
        if os.environ.get(SHOW_TRACEBACK):
            traceback.print_exc()
        if interrupt := _interrupt_behind(error):
            say(f"{name}: interrupted")
            return 128 + getattr(interrupt, "number", signal.SIGINT)
        say(f"{name}: error: {one_line(_message(error, expected or (ValueError, OSError)))}")
        return FAILED


def print_result(text: str, end: str = "\n") -> None:
    """Print to standard output; without a word if its reader has left, so that the exit status is still the command's.

    Raises:
        OSError: If it is closed, or cannot be written.
    """
    try:
        with reader_may_leave():
            print(text, end=end)
    except OSError as error:
        raise OSError(f"standard output cannot be written: {error.strerror or 'it is closed'}") from error


def say(line: str) -> None:
    """A line on standard error; where that is closed or full, a command goes on without."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def ended_by(*signals: int) -> Iterator[None]:
    """Raise `Signalled` in the block at these signals, so that it can tidy up; those that somebody handles stay his."""
    ours = [number for number in signals if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    for number in ours:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _raise(number: int, frame: Any) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # a second one would cut the tidying up
    raise Signalled(number)


@contextlib.contextmanager
def _plain_warnings(name: str) -> Iterator[None]:
    """Have each warning be one printable line, without the line of code that it came from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"{name}: warning: {one_line(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error is or came from: a library may have made another of it, as one does that loads."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _message(error: BaseException, expected: tuple[type[Exception], ...]) -> str:
    text = str(error)
    if not (isinstance(error, expected) and text.strip()):
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(place.filename)}:{place.lineno}; {SHOW_TRACEBACK}=1 in the environment shows more"
        text = f"unexpected {type(error).__name__}: {text} ({where})"
    foreign = "utf" not in sys.getfilesystemencoding() and not " ".join(sys.argv).isascii()
    if foreign and not isinstance(error, FileNotFoundError):
        text += f" (this locale's encoding is {sys.getfilesystemencoding()}; PYTHONUTF8=1 allows all names)"
    return text
