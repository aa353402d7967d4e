"""Files in and out: JSON and TOML are read whole or refused in one line, and a report's files are written whole or not.

Does not know what is in them.
"""

import contextlib
import fcntl
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gptloop.report.errors import ReportError

T = TypeVar("T")

_LARGEST_FILE = 256_000_000  # bytes; a run of a thousand contenders takes 10 MB
_STAGED = (".gptloop-report-", ".tmp")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ReportError: If it cannot be read, or is not JSON.
    """
    return _read(path, json.loads, "JSON, truncated perhaps")


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables.

    Raises:
        ReportError: If it cannot be read, or is not TOML.
    """
    return _read(path, tomllib.loads, "TOML")


def read_text(path: Path) -> str:
    """A text file, with its line ends as they are.

    Raises:
        ReportError: If it cannot be read, or is not UTF-8.
    """
    return _read(path, str, "UTF-8")


def _read(path: Path, parse: Callable[[str], T], what: str) -> T:
    content = _content(path)
    try:
        return parse(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not valid {what}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        status = path.stat()  # before it is opened: a pipe would be waited for
        if not stat.S_ISREG(status.st_mode):
            raise ReportError(f"{path}: cannot be read: it is no plain file")
        if status.st_size > _LARGEST_FILE:
            size, most = f"{status.st_size:,}", f"{_LARGEST_FILE:,}"
            raise ReportError(f"{path}: cannot be read: it has {size} bytes, at most {most} are read")
        return path.read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, each one whole or not at all, and none before all are written beside their places.

    What writers left behind that were killed is removed.

    Args:
        folder: An existing folder.
        files: Contents by path below it.

    Raises:
        ReportError: If a file cannot be written.
    """
    staged: dict[Path, Path] = {}
    try:
        with _only_writer(folder) as alone:
            if alone:
                _remove_staged({(folder / name).parent for name in files})
            for name, content in files.items():
                if not (folder / name).parent.resolve().is_relative_to(folder.resolve()):
                    raise OSError(None, "its folder is a link to elsewhere", str(folder / name))
                _stage(folder / name, content, staged)
            for temporary, path in staged.items():
                os.replace(temporary, path)
    except OSError as error:
        raise ReportError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file that others write to, too, such as a job's summary.

    Raises:
        ReportError: If the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def _only_writer(folder: Path) -> Iterator[bool]:
    """Wait for other writers of a folder; false where its file system has no locks. A lock ends with its process."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_staged(folders: set[Path]) -> None:
    """Remove what a killed writer staged and nobody will move; what cannot be removed is in nobody's way."""
    prefix, suffix = _STAGED
    for folder in folders:
        for path in folder.glob(f"{prefix}*{suffix}"):
            with contextlib.suppress(OSError):
                path.unlink()


def _stage(path: Path, content: bytes, staged: dict[Path, Path]) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(None, "a folder stands in its place", str(path))
    prefix, suffix = _STAGED
    descriptor, temporary = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=path.parent)
    staged[Path(temporary)] = path
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:  # a full disk, which names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.chmod(temporary, 0o644)  # mkstemp makes it private; charts are to be read by others
