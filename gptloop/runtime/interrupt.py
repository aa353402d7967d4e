"""Work outside Python that a signal may end: Ctrl-C, and what else its handler in Python raises an exception for.

Python runs its handlers in the main thread, and not while that is inside a library. But it writes the signal's number
to a file descriptor at once; a thread that waits there makes the work end, and then the handler runs. The work stays in
the main thread: handed to another one, a call took 30 to 100 us more on two busy cores, watched it takes 5.

Knows nothing of the work.

Source: Python's documentation of `signal.set_wakeup_fd`.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
ENDING = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}

WRITE_SIGNALS_TO = functools.partial(signal.set_wakeup_fd, warn_on_full_buffer=False)


def interruptible(work: Callable[[], Result], stop: Callable[[bool], object]) -> Result:
    """Do the work; in the main thread, to which signals come, a signal ends it early.

    Args:
        work: Raises something when it was stopped. May be done twice: again where a handler raised nothing, and then to
            its end.
        stop: With True, makes the work end early, called in another thread; with False, lets it be done again.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    watch = Watch.of_this_process()
    try:
        return watch.over(work, stop)
    except Exception:
        if not watch.stopped:
            raise
    with watch.stopping:  # what may be under way
        stop(False)
    return work()


class Watch:
    """The thread that hears of signals, one for a process.

    Attributes:
        stopped: Whether the work was told to end.
        stopping: Held while it is told.
    """

    _only: Watch | None = None

    def __init__(self) -> None:
        self.stopped, self.stopping = False, threading.Lock()
        self._process = os.getpid()
        self._stop: Callable[[bool], object] | None = None
        self._hears, self._written = socket.socketpair()
        self._written.setblocking(False)
        threading.Thread(target=self._hear, name="watch-for-signals", daemon=True).start()

    @classmethod
    def of_this_process(cls) -> Watch:
        """Another one after a fork, which copies no thread."""
        if cls._only is None or cls._only._process != os.getpid():
            cls._only = cls()
        return cls._only

    def over(self, work: Callable[[], Result], stop: Callable[[bool], object]) -> Result:
        """Do the work, and stop it at a signal; not where somebody else, like an event loop, hears signals already."""
        before: list[int] = []  # the file descriptor of who does, or -1
        self.stopped, self._stop = False, stop
        try:
            # In one call of C: Python runs a handler, which may raise, after any call of a line.
            before.extend(map(WRITE_SIGNALS_TO, (self._written.fileno(),)))
            if before != [-1]:
                self._stop = None
                signal.set_wakeup_fd(before[0])
            return work()
        finally:
            self._stop = None
            if before:
                signal.set_wakeup_fd(before[0])  # a handler that raises does so after it

    def _hear(self) -> None:
        while numbers := self._hears.recv(64):
            if ENDING.intersection(numbers):
                with self.stopping:
                    if stop := self._stop:
                        self.stopped = True
                        stop(True)
