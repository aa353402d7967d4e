"""Temporary folders of long commands: removed at the end, and those of a process that was killed by the next command.

A folder is locked while its process lives (flock(2): the lock ends with the process, however it ends). So whatever has
this module's name and lock file, and can be locked, is nobody's.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "gptloop-"
LOCK = ".locked-while-in-use"


@contextlib.contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """A temporary folder.

    Args:
        kind: A word of its name, for people.
    """
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
    lock = None
    try:
        lock = os.open(folder / f"{LOCK}.new", os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / f"{LOCK}.new", folder / LOCK)  # nobody sees it before it is locked
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what resists, the next command tries again
        if lock is not None:
            os.close(lock)


def remove_abandoned() -> None:
    """Remove the folders of processes that have ended without doing so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        remove_if_abandoned(folder)


def remove_if_abandoned(folder: Path) -> None:
    """Remove a folder that `scratch` made, unless its process is alive."""
    try:
        status = folder.lstat()
        if not (folder.name.startswith(PREFIX) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()):
            return
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return  # not made here, or gone
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # its process is alive
    finally:
        os.close(lock)
