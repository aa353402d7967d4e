"""Files in and out: JSON and TOML are read whole or refused in one line, and a report's files are written whole or not.

Does not know what is in them.
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from gptloop.report.errors import ReportError

T = TypeVar("T")


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


def _read(path: Path, parse: Callable[[str], T], what: str) -> T:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not valid {what}: {error}") from error


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, each one whole or not at all, and none before all are on the disk.

    Args:
        folder: An existing folder.
        files: Contents by path below it.

    Raises:
        ReportError: If a file cannot be written.
    """
    staged: dict[Path, Path] = {}
    try:
        for name, content in files.items():
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


def _stage(path: Path, content: bytes, staged: dict[Path, Path]) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(None, "a folder stands in its place", str(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    staged[Path(temporary)] = path
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o644)  # mkstemp makes it private; charts are to be read by others
