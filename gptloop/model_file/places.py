"""Where the parts of a model may lie: in its own folder, or where the same links lead to that the .onnx file is one of.

A part is named by a plain file name. The regular file that it leads to, links followed, lies in the folder of the .onnx
file as it was named, or in the folder that this .onnx file leads to itself. So a hub cache works (model and data are
links into one folder of blobs) and so does a Kubernetes volume (both are links into ..data, a link to a folder), while
a link to a file of somebody else's does not. ONNX Runtime (from 1.24) has the same two folders.

Knows names and links; opens no file.
"""

from __future__ import annotations

import stat
from pathlib import Path

from gptloop.model_file.damage import damaged, shown


def part_of(path: Path, name: str, what: str) -> Path:
    """The real path of a part that the model at `path` names, wherever it is; it need not exist.

    Args:
        path: The .onnx file.
        name: The part's name in the model.
        what: What the model calls it, for errors.

    Raises:
        ValueError: If the name is not plain, or leads elsewhere or to what is no regular file.
    """
    if not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise damaged(path, f"{what} is {shown(name)}, which must be the plain name of a file in the model's folder")
    named = path.parent / name
    try:
        real = named.resolve()
        mode = real.stat().st_mode
    except FileNotFoundError:
        return named
    except (OSError, RuntimeError) as error:  # a loop of links, a name that is too long
        raise damaged(path, f"{what} is {shown(name)}, which cannot be found: {_cause(error)}") from None
    if real.parent not in (path.parent.resolve(), path.resolve().parent):
        raise damaged(path, f"{what} is {shown(name)}, a link out of the model's folder")
    if not stat.S_ISREG(mode):
        raise damaged(path, f"{what} is {shown(name)}, which is no regular file")
    return real


def _cause(error: Exception) -> str:
    return error.strerror or "OSError" if isinstance(error, OSError) else "a loop of links"
