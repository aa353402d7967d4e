"""The output: the records of a journal in the order of their prompts, as lines of JSON or as Parquet.

Knows the two formats; nothing of a model.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from gptloop.batch.plan import Record
from gptloop.batch.prompts import PARQUET, PARQUET_MISSING
from gptloop.console import strict_json

ROWS_OF_A_GROUP = 1024
WRITTEN = ".written"  # behind the output's name, while it is


def check_output(path: Path) -> None:
    """Refuse an output that could not be written in the end.

    Raises:
        FileNotFoundError: If its folder does not exist.
        ValueError: If it is Parquet by its name, and pyarrow is not installed.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    if path.suffix == PARQUET:
        _schema()


def write(records: Iterable[Record], path: Path) -> None:
    """Write all records; `path` is there when they are all written, and not before.

    Raises:
        OSError: If they cannot be written.
    """
    unfinished = path.with_name(f"{path.name}{WRITTEN}")
    try:
        with unfinished.open("wb") as file:
            (_write_parquet if path.suffix == PARQUET else _write_lines)(records, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; started again, it goes on") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _write_lines(records: Iterable[Record], file: BinaryIO) -> None:
    for record in records:
        file.write(strict_json(record).encode() + b"\n")


def _write_parquet(records: Iterable[Record], file: BinaryIO) -> None:
    import pyarrow as pa  # noqa: PLC0415  (an extra)
    import pyarrow.parquet as pq  # noqa: PLC0415

    stream = iter(records)
    with pq.ParquetWriter(file, _schema()) as writer:
        while rows := list(itertools.islice(stream, ROWS_OF_A_GROUP)):
            writer.write_table(pa.Table.from_pylist(rows, schema=_schema()))


def _schema() -> Any:
    """A column for each key of a record, null where a record lacks it."""
    try:
        import pyarrow as pa  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise ValueError(PARQUET_MISSING) from error
    ids = pa.list_(pa.int64())
    candidate = {
        "ids": ids,
        "text": pa.string(),
        "ended": pa.string(),
        "logprob": pa.float64(),
        "raw_logprob": pa.float64(),
    }
    return pa.schema(
        {
            "prompt": pa.string(),
            "prompt_ids": ids,
            "seed": pa.int64(),
            "candidates": pa.list_(pa.struct(list(candidate.items()))),
            "error": pa.string(),
        }
    )
