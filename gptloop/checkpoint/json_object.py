"""A JSON file that holds an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gptloop.checkpoint.brief import brief

MAX_BYTES = 2**28  # far beyond any tokenizer, far below the memory; what it holds takes some ten times as much


def read_json_object(file: Path) -> dict[str, Any]:
    """Read it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds something else, or more than `MAX_BYTES`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} is {'no regular file' if file.exists() else 'missing'}")
    if (size := file.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{file} has {size} bytes, more than the {MAX_BYTES} that are read of a JSON file")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {brief(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(content).__name__}")
    return content
