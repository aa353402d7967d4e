"""Standard output whose reader may leave early, as `head` does."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End the block without a word when the reader of standard output has gone; the exit status is the caller's.

    Source: Python's documentation of the module `signal`, "Note on SIGPIPE".
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # or the interpreter would find out at its end, and complain
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
