"""The prompts of a file: lines of JSON, or rows of Parquet made such lines; read as a stream.

Knows the two formats and what a prompt is; nothing of a model.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from gptloop.values import shown

PARQUET = ".parquet"
COLUMNS = ("prompt", "ids")
WINDOW = 1024  # prompts that are planned together, unless told otherwise
LINE_BYTES_MAX = 16 * 2**20  # a longer line is no prompt: it would only fill the memory
PARQUET_MISSING = "Parquet needs pyarrow: pip install pyarrow"


class Window(NamedTuple):
    """Prompts that are planned together.

    Attributes:
        number: Of the window, from 0.
        first: The number of its first prompt, from 0.
        lines: Its prompts, a JSON object each, unread.
    """

    number: int
    first: int
    lines: list[bytes]

    def sha256(self) -> str:
        """Of its lines."""
        digest = hashlib.sha256()
        for line in self.lines:
            digest.update(line + b"\n")
        return digest.hexdigest()


class Prompt(NamedTuple):
    """Token ids, or text that is to become such."""

    text: str | None
    ids: list[int]


def count(path: Path) -> int:
    """How many prompts a file has.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is a pipe or the like, which cannot be read twice; or if it is Parquet by its name, and no
            such file or one without prompts.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is no file but a pipe or a device, and prompts are read twice: save them first")
    if path.suffix == PARQUET:
        with closing(_parquet(path)) as file:
            return int(file.metadata.num_rows)
    lines, end = 0, b"\n"
    with path.open("rb") as file:
        while piece := file.read(2**20):
            lines, end = lines + piece.count(b"\n"), piece[-1:]
    return lines + (end != b"\n")


def windows(path: Path, size: int) -> Iterator[Window]:
    """The prompts of a file in its order, `size` of them at a time; raises as `count`."""
    lines = _rows(path) if path.suffix == PARQUET else _lines(path)
    for number in itertools.count():
        if not (window := list(itertools.islice(lines, size))):
            return
        yield Window(number, number * size, window)


def parse(line: bytes) -> Prompt:
    """A line's prompt.

    Raises:
        ValueError: Saying what is wrong with it.
    """
    if len(line) > LINE_BYTES_MAX:
        raise ValueError(f"longer than {LINE_BYTES_MAX:,} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error or 'too deep'}") from error
    given = [name for name in COLUMNS if isinstance(value, dict) and value.get(name) is not None]
    if len(given) != 1:
        raise ValueError(f'must be {{"prompt": TEXT}} or {{"ids": [1, 2, 3]}}, got {shown(value)}')
    prompt = value[given[0]]
    if given == ["prompt"] and isinstance(prompt, str):
        return Prompt(prompt, [])
    if given == ["ids"] and isinstance(prompt, list) and all(type(token) is int for token in prompt):
        return Prompt(None, prompt)
    raise ValueError(f"{given[0]} must be {'a text' if given == ['prompt'] else 'token ids'}, got {shown(prompt)}")


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file; of one that is too long, as much as shows that."""
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES_MAX + 1):
            rest = line
            while len(rest) > LINE_BYTES_MAX and not rest.endswith(b"\n"):
                rest = file.readline(LINE_BYTES_MAX + 1)
            yield line.removesuffix(b"\n")


def _rows(path: Path) -> Iterator[bytes]:
    with closing(_parquet(path)) as file:
        columns = [name for name in COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield json.dumps(row, default=repr).encode()


def _parquet(path: Path) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415  (an extra)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(PARQUET_MISSING) from error
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is truncated or no Parquet file: {error}") from error
    if not set(COLUMNS) & set(file.schema_arrow.names):
        names = ", ".join(file.schema_arrow.names)
        raise ValueError(f"{path} has no column prompt or ids, only {shown(names, str)}")
    return file
