"""A checkpoint's folder: only what lies in it is read, whatever its files name or link to; and paths as text."""

from __future__ import annotations

import os
from pathlib import Path

from gptloop.checkpoint.brief import brief


def file_in(folder: Path, name: str) -> Path:
    """The file of this name in a checkpoint's folder, which need not exist.

    A snapshot in a hub cache consists of links to `../../blobs/<hash>`; those are its own, too.

    Raises:
        ValueError: If the name is no plain file name, or a link that leads out of the folder.
    """
    if not name or name != os.path.basename(name) or name in (".", "..") or "\0" in name or len(name) > 255:
        raise ValueError(f"{folder} may only name files in itself, got {brief(repr(name))}")
    real = Path(os.path.realpath(folder))
    roots = [real]
    if real.parent.name == "snapshots":
        roots.append(real.parent.parent / "blobs")
    target = Path(os.path.realpath(folder / name))
    if not any(target.is_relative_to(root) for root in roots):
        raise ValueError(f"{folder / name} is a link out of its folder, to {brief(target)}; put the file itself there")
    return folder / name


def check_path(path: Path) -> None:
    """Refuse a path that Python could not decode, before a library that takes text does.

    Raises:
        ValueError: Saying what to set.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the path {brief(path)} is no text in this locale: set PYTHONUTF8=1") from error
