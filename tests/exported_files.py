"""What tests of exported files share: what tells one model from another, and what a folder holds."""

from __future__ import annotations

import functools
from pathlib import Path

import gptloop
from gptloop import OnnxLoop

# For tests of what happens to the files: a graph of far fewer operators, written and opened in a fifth of the time.
export = functools.partial(gptloop.export, flavor="lean")


def tokens(path: Path) -> list[int]:
    """What tells one model from another."""
    return OnnxLoop(path, device="cpu", threads=1).generate([[1, 2, 3]], max_new_tokens=12, temperature=0)[0].tolist()


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes by its name, None for a folder."""
    return {file.name: file.read_bytes() if file.is_file() else None for file in folder.iterdir()}


def parameter_bytes(model) -> list[int]:
    return [4 * parameter.numel() for parameter in model.parameters()]
