"""Work outside Python that a signal may end: Ctrl-C, or whatever else a signal's handler raises.

Python's handlers run in the main thread, and not while that is inside a library. So there the work goes to a thread of
its own, and the main thread waits, which a handler may end. A fresh thread each time, since one that is kept would be
missing after a fork: 25 to 45 us a call on a busy machine of two cores.

Knows nothing of the work.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def interruptible(work: Callable[[], Result], stop: Callable[[], object]) -> Result:
    """Do the work.

    Args:
        work: Returns or raises what this function does.
        stop: Makes the work end early; called in the main thread when a handler has raised. What that raised is raised
            here once the work has ended, whatever it ended with.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()  # to which no signal comes
    results: list[Result] = []
    errors: list[BaseException] = []
    done = _thread.allocate_lock()
    done.acquire()

    def in_thread() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001  (raised below)
            errors.append(error)
        finally:
            done.release()

    _thread.start_new_thread(in_thread, ())
    try:
        done.acquire()
    except BaseException:
        stop()
        done.acquire()
        raise
    if errors:
        raise errors.pop()
    return results.pop()
