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
from typing import NamedTuple

import onnx
import onnx_ir as ir

from gptloop import names
from gptloop.model_file.content import WEIGHT_FROM_BYTES, graph_sha256, inner_weights_sha256

EXTERNAL_FROM_BYTES = WEIGHT_FROM_BYTES  # smaller tensors stay in the .onnx file, where a reader sees them
HASH_DIGITS = 16

Progress = Callable[[int, int], None]


class Part(NamedTuple):
    """A file that a model names.

    Attributes:
        path: Where it is; its name is that of the model and the first digits of `sha256`.
        sha256: Of its content, in hexadecimal digits.
        is_new: Whether there was none of this name before.
    """

    path: Path
    sha256: str
    is_new: bool


def write_tokenizer(tokenizer: bytes, path: Path, parts: list[Part]) -> None:
    """Write the tokenizer beside `path`, and add it to the parts."""
    with _temporary(path, ".tokenizer.json") as unfinished:
        with _naming_the_cause(path, unfinished, len(tokenizer)):
            unfinished.write_bytes(tokenizer)
        _name_by_content(unfinished, path, ".tokenizer.json", parts)


def write_data(model: ir.Model, path: Path, parts: list[Part], progress: Progress | None) -> None:
    """Write the weights beside `path`, add their file to the parts, and make the model refer to it."""
    weights = [tensor for tensor in initial_tensors(model) if tensor.nbytes >= EXTERNAL_FROM_BYTES]
    with _temporary(path, ".data") as unfinished:
        with _naming_the_cause(path, unfinished, sum(tensor.nbytes for tensor in weights)):
            external = ir.external_data.convert_tensors_to_external(
                weights,
                unfinished.parent,
                unfinished.name,
                callback=progress and (lambda _, info: progress(info.index + 1, info.total)),
            )
        _name_by_content(unfinished, path, ".data", parts)
    stored = {id(weight): tensor for weight, tensor in zip(weights, external, strict=True)}
    for value in _initializers(model):
        if tensor := stored.get(id(value.const_value)):
            value.const_value = ir.ExternalTensor(
                parts[-1].path.name,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=value.name or "",
                base_dir=path.parent,
            )


def _name_by_content(unfinished: Path, path: Path, suffix: str, parts: list[Part]) -> None:
    """Give a finished file that belongs to `path` the name it is known by."""
    with unfinished.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    named = path.with_name(f"{path.stem}-{digest[:HASH_DIGITS]}{suffix}")
    parts.append(Part(named, digest, is_new=not named.exists()))
    os.replace(unfinished, named)


def initial_tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    """Every tensor that some graph of the model starts with, once."""
    tensors = {id(value.const_value): value.const_value for value in _initializers(model)}
    return [tensor for tensor in tensors.values() if tensor is not None]


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [value for graph in model.graphs() for value in graph.initializers.values()]


def commit(model: ir.Model, path: Path) -> None:
    """Write the .onnx file, which names its parts: from here on they are the model at `path`."""
    is_single = names.META_DATA_SHA256 not in model.metadata_props
    hashes = (names.META_GRAPH_SHA256, *([names.META_DATA_SHA256] if is_single else []))
    model.metadata_props.update(dict.fromkeys(hashes, ""))  # in the places where they belong
    proto = ir.to_proto(model)
    for entry in proto.metadata_props:
        if entry.key in hashes:
            entry.value = (graph_sha256 if entry.key == names.META_GRAPH_SHA256 else inner_weights_sha256)(proto)
    with _temporary(path, ".onnx") as unfinished:
        with _naming_the_cause(path, unfinished, proto.ByteSize()):
            onnx.save(proto, unfinished)
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


@contextlib.contextmanager
def _temporary(path: Path, suffix: str) -> Iterator[Path]:
    """A file name beside `path` that is gone when the block ends, however it ends."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=f".unfinished{suffix}", dir=path.parent)
    os.close(descriptor)
    unfinished = Path(name)
    try:
        # Once more, with the permissions of any new file. To ask for the umask is to change it, for all threads.
        unfinished.unlink()
        unfinished.touch(exist_ok=False)
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming_the_cause(path: Path, unfinished: Path, size: int) -> Iterator[None]:
    """Let an error of writing `size` bytes say which model was to be written and what the system said."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and unfinished.name not in str(error.filename):
            raise  # of the checkpoint, whose tensors are read while they are written
        cause = error if error.errno else _what_the_system_says(unfinished, size)
        words = f"cannot write {path}: {cause.strerror if cause else error}"
        raise (OSError(cause.errno, words) if cause else OSError(words)) from error


def _what_the_system_says(unfinished: Path, size: int) -> OSError | None:
    """The error that numpy, which only counts what it wrote, has not kept: that of asking for as much space again."""
    try:
        with unfinished.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
    except OSError as error:
        return error
    return None
