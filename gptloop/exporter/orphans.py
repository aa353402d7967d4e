"""What exports left behind, and whether a model still names it."""

from __future__ import annotations

import mmap
import re
import shutil
from pathlib import Path

from gptloop.exporter.files import HASH_DIGITS


def remove_orphans(path: Path) -> None:
    """Remove what exports to `path` left behind: files of theirs that no .onnx file here names, and unfinished ones."""
    stem = re.escape(path.stem)
    # The longest of the unfinished names are onnx_ir's own.
    unfinished = re.compile(rf"\.+{stem}-\w+\.unfinished\.(data|onnx|tokenizer\.json)(\.\w+)?")
    part = re.compile(rf"{stem}-[0-9a-f]{{{HASH_DIGITS}}}\.(data|tokenizer\.json)")
    # Unfinished files first: one that was to become the model names its parts already.
    for file in _matching(path.parent, unfinished):
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    for file in _matching(path.parent, part):
        if not _is_named(file):
            file.unlink(missing_ok=True)


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    return [file for file in folder.iterdir() if pattern.fullmatch(file.name)]


def _is_named(part: Path) -> bool:
    """Whether some .onnx file in the same folder mentions this file."""
    return any(_mentions(model, part.name.encode()) for model in part.parent.glob("*.onnx"))


def _mentions(model: Path, name: bytes) -> bool:
    if not model.is_file() or model.stat().st_size == 0:  # which cannot be mapped
        return False
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(name) >= 0
