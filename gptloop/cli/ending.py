"""How a command ends: with which exit code, and what is said.

0 on success, and when the reader of standard output leaves; 2 with one line on standard error whatever went wrong;
128 and the signal's number when a signal ended it, 130 after Ctrl-C. Knows no command.
"""

from __future__ import annotations

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
EXPECTED = (ValueError, OSError)  # what input causes; anything else is somebody's mistake, but no user's


class Signalled(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the command to end."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def run(command: Callable[[], None]) -> int:
    """Run a command; its exit code.

    Raises:
        SystemExit: As the command does, to which argparse's refusals belong.
    """
    prepare_streams()
    try:
        with reader_may_leave(), _plain_warnings():
            command()
    except SystemExit:
        raise
    except BaseException as error:  # panics of libraries in Rust are no Exception
        if os.environ.get(SHOW_TRACEBACK):
            traceback.print_exc()
        if interrupt := _interrupt_behind(error):
            _say("gptloop: interrupted")
            return 128 + getattr(interrupt, "number", signal.SIGINT)
        _say(f"gptloop: error: {one_line(_message(error))}")
        return 2
    return 0


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Have each warning be one printable line, without the line of code that it came from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"gptloop: warning: {one_line(str(message))}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def _say(line: str) -> None:
    """A line on standard error; where that is full, the exit code says it alone."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _interrupt_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """The interrupt that an error is or came from: a library may have made another of it, as one does that loads."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


def _message(error: BaseException) -> str:
    text, kind = str(error), type(error).__name__
    if not isinstance(error, EXPECTED):
        text = f"{kind}: {text}" if text else kind
        text += f" (unexpected; {SHOW_TRACEBACK}=1 in the environment shows where)"
    foreign = "utf" not in sys.getfilesystemencoding() and not " ".join(sys.argv).isascii()
    if foreign and not isinstance(error, FileNotFoundError):
        text += f" (this locale's encoding is {sys.getfilesystemencoding()}; PYTHONUTF8=1 allows all names)"
    return text or kind


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
    raise Signalled(number)
