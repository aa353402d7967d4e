"""Files that appear whole or not at all: parts named by their content, then the model that names them.

Knows files and which tensors a model starts with; not what they mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx_ir as ir

EXTERNAL_FROM_BYTES = 1024  # smaller tensors (constants, shapes) stay in the .onnx file, where a reader sees them
HASH_DIGITS = 16

Progress = Callable[[int, int], None]


def write_tokenizer(tokenizer: bytes, path: Path) -> str:
    """Write the tokenizer beside `path`; the name of its file."""
    with _temporary(path, ".tokenizer.json") as unfinished:
        unfinished.write_bytes(tokenizer)
        return _name_by_content(unfinished, path, ".tokenizer.json").name


def write_data(model: ir.Model, path: Path, progress: Progress | None) -> None:
    """Write the weights beside `path` under the hash of their content, and make the model refer to them."""
    weights = [tensor for tensor in initial_tensors(model) if tensor.nbytes >= EXTERNAL_FROM_BYTES]
    with _temporary(path, ".data") as unfinished:
        external = ir.external_data.convert_tensors_to_external(
            weights,
            unfinished.parent,
            unfinished.name,
            callback=progress and (lambda _, info: progress(info.index + 1, info.total)),
        )
        data = _name_by_content(unfinished, path, ".data")
    stored = {id(weight): tensor for weight, tensor in zip(weights, external, strict=True)}
    for value in _initializers(model):
        if tensor := stored.get(id(value.const_value)):
            value.const_value = ir.ExternalTensor(
                data.name,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=value.name or "",
                base_dir=path.parent,
            )


def _name_by_content(unfinished: Path, path: Path, suffix: str) -> Path:
    """Give a finished file that belongs to `path` the name it is known by."""
    with unfinished.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:HASH_DIGITS]
        os.fsync(file.fileno())
    named = path.with_name(f"{path.stem}-{digest}{suffix}")
    os.replace(unfinished, named)
    return named


def initial_tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    """Every tensor that some graph of the model starts with, once."""
    tensors = {id(value.const_value): value.const_value for value in _initializers(model)}
    return [tensor for tensor in tensors.values() if tensor is not None]


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [value for graph in model.graphs() for value in graph.initializers.values()]


def commit(model: ir.Model, path: Path) -> None:
    """Write the .onnx file, which names its parts: from here on they are the model at `path`."""
    with _temporary(path, ".onnx") as unfinished:
        ir.save(model, unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


@contextlib.contextmanager
def _temporary(path: Path, suffix: str) -> Iterator[Path]:
    """A file name beside `path` that is gone when the block ends, however it ends."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".unfinished{suffix}", dir=path.parent)
    os.close(descriptor)
    os.chmod(name, 0o666 & ~_umask())
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
