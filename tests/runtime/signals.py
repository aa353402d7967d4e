"""A signal that comes while something is at work."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupted(after_s: float) -> Iterator[None]:
    """Ctrl-C so many seconds after the block has begun; none where it has ended before.

    Raises:
        KeyboardInterrupt: Wherever it finds this process: in the block, or while this waits for what is on its way.
    """
    timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        yield
    finally:
        timer.cancel()
        timer.join()
