"""What exports left behind, and whether a model still names it.

A file that cannot be removed stays: the model is written, and the next export tries again.
"""

from __future__ import annotations

import contextlib
import mmap
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from gptloop.exporter.files import HASH_DIGITS

FIRST_BYTE = b"\x08"  # of every ONNX file: the key of protobuf's field 1, ir_version, which writers put first


def remove_orphans(path: Path) -> None:
    """Remove what exports to `path` left behind: parts of theirs that no ONNX file here names, and unfinished files.

    To be called by an export that is alone in the folder: unfinished files of a living one look the same.
    """
    stem = re.escape(path.stem)
    # The longest of the unfinished names are onnx_ir's own.
    unfinished = re.compile(rf"\.+{stem}-\w+\.unfinished\.(data|onnx|tokenizer\.json)(\.\w+)?")
    part = re.compile(rf"{stem}-[0-9a-f]{{{HASH_DIGITS}}}\.(data|tokenizer\.json)")
    # Unfinished files first: one that was to become the model names its parts already.
    for file in _matching(path.parent, unfinished):
        _remove(file)
    remove_unnamed(_matching(path.parent, part))


def remove_unnamed(parts: Iterable[Path]) -> None:
    """Remove those of these files that no ONNX file in their folder names, whatever it is called.

    A backup (gpt2.onnx.bak, gpt2.onnx~) may name them, too. All stay where a file cannot be read.
    """
    for part in parts:
        if part.is_file() and not _is_named(part):
            _remove(part)


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [file for file in folder.iterdir() if pattern.fullmatch(file.name)]


def _is_named(part: Path) -> bool:
    name = part.name.encode()
    try:
        return any(_mentions(file, name) for file in part.parent.iterdir())
    except OSError:
        return True


def _mentions(file: Path, name: bytes) -> bool:
    """Whether a file is an ONNX file that holds a name."""
    if not file.is_file():
        return False
    with file.open("rb") as model:
        if model.read(1) != FIRST_BYTE:
            return False
        with mmap.mmap(model.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(name) >= 0
