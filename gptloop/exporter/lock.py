"""One export at a time in a folder, by a lock that dies with its process and leaves no file behind.

The lock is the folder's own, so that an export sees no other's unfinished files: what it finds of that kind was left by
one that is dead. Readers need none: a model file is replaced as a whole.

Source: flock(2).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# What network file systems say of a folder's lock: there, a file has to be locked instead.
NO_LOCK_OF_A_FOLDER = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
LOCK_FILE = ".gptloop.lock"


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other export writes to the folder, and keep others waiting until the block ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCK_OF_A_FOLDER:
                raise
            os.close(descriptor)
            # It stays: whoever removed it could have another export wait for a file that is gone.
            descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
