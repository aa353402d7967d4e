"""From a checkpoint to an ONNX file: the graph of gptloop.graph, the tensors it stores, and a write that is atomic.

Knows checkpoints and files; not how the graph computes, nor who will run it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import mmap
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import onnx_ir as ir
import torch

from gptloop import graph, names
from gptloop.checkpoint import TORCH_TYPES, Checkpoint, Model, open_checkpoint, query_scale
from gptloop.graph.lean import FLAVORS, build_lean
from gptloop.graph.model import FLOAT_TYPES
from gptloop.graph.weights import SCALE
from gptloop.model_file import read_model
from gptloop.request import whole_number
from gptloop.tokenizer import read_tokenizer

PRECISIONS = (*FLOAT_TYPES, "int8")
EXTERNAL_FROM_BYTES = 1024  # smaller tensors (constants, shapes) stay in the .onnx file, where a reader sees them
PROTOBUF_MAX_BYTES = 2**31 - 1
HASH_DIGITS = 16

Progress = Callable[[int, int], None]


def export(
    model: Model | Checkpoint,
    path: str | Path,
    *,
    precision: str = "fp32",
    flavor: str = "standard",
    max_new_tokens: int | None = None,
    single_file: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a GPT-2 checkpoint as one ONNX model whose single `run` generates.

    The weights go into a file beside it, `<stem>-<hash of the content>.data`, and the tokenizer of a hub id or a
    directory, if it has one, into `<stem>-<hash of the content>.tokenizer.json`. The rename of the .onnx file, which
    names both, is the one commit point: an export that ends before it leaves whatever stood at `path` as it was; after
    it, files that no model names any more are removed. One export at a time may write to one path.

    Args:
        model: A GPT2LMHeadModel, a hub id, or a local directory with config.json and safetensors.
        path: The .onnx file to write; its folder must exist.
        precision: "fp32"; "fp16" or "bf16": weights, activations and KV cache in half precision; or "int8": matrices
            in 8 bits, about a quarter of the size.
        flavor: "standard"; or "lean", "fixed", "fused" or "unrolled", graphs for a GPU that sample by temperature and
            one top_k and end at max_new_tokens only (gptloop.graph.lean says how they differ).
        max_new_tokens: The number that an "unrolled" graph generates; of no other flavor.
        single_file: Put the weights into the .onnx file itself; up to protobuf's 2 GB.
        progress: Called with (tensors written, tensors in all).

    Returns:
        `path`.

    Raises:
        ValueError: If the precision or flavor is unknown or max_new_tokens does not fit it, the path does not end in
            .onnx, the configuration is not supported, the tokenizer cannot be read, a single file would be too large,
            or a weight is beyond the precision's range.
        FileNotFoundError: If the folder of `path` or a file of the checkpoint does not exist.
    """
    path = Path(path)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    _check_flavor(flavor, precision, max_new_tokens)
    if path.suffix != ".onnx":
        raise ValueError(f"the model file must end in .onnx, got {path.name!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    if path.is_dir():
        raise ValueError(f"the model file cannot be a folder: {path}")
    checkpoint = open_checkpoint(model)
    if flavor == "standard":
        tensors = stored_tensors(checkpoint, precision)
        # A single file would hold them twice.
        onnx_model = graph.build(checkpoint.config, tensors, precision, repeat_weights=not single_file)
    else:
        tensors = stored_tensors(checkpoint, precision)
        onnx_model = build_lean(checkpoint.config, tensors, precision, flavor, max_new_tokens)
    onnx_model.metadata_props.update(describe(checkpoint, precision))
    onnx_model.metadata_props[names.META_FLAVOR] = flavor
    if max_new_tokens is not None:
        onnx_model.metadata_props[names.META_MAX_NEW_TOKENS] = str(max_new_tokens)
    if single_file:
        size = sum(tensor.nbytes for tensor in _initial_tensors(onnx_model))
        if size > PROTOBUF_MAX_BYTES:
            raise ValueError(f"weights of {size} bytes do not fit a single file, protobuf ends at {PROTOBUF_MAX_BYTES}")
    tokenizer = checkpoint.directory and read_tokenizer(checkpoint.directory)
    try:
        if tokenizer:
            onnx_model.metadata_props[names.META_TOKENIZER] = _write_tokenizer(tokenizer, path)
        if not single_file:
            _write_data(onnx_model, path, progress)
        _commit(onnx_model, path)
    finally:
        remove_orphans(path)
    return path


def _check_flavor(flavor: str, precision: str, max_new_tokens: int | None) -> None:
    if flavor not in ("standard", *FLAVORS):
        raise ValueError(f"flavor must be one of standard, {', '.join(FLAVORS)}, got {flavor!r}")
    if flavor == "fused" and precision == "int8":
        raise ValueError("flavor 'fused' is for floating-point precisions, got precision 'int8'")
    if flavor != "unrolled":
        if max_new_tokens is not None:
            raise ValueError(f"max_new_tokens is fixed in flavor 'unrolled' only, got {max_new_tokens} for {flavor!r}")
    elif max_new_tokens is None:
        raise ValueError("flavor 'unrolled' needs max_new_tokens, the number of steps that are written out")
    else:
        whole_number("max_new_tokens", max_new_tokens, at_least=1)


def stored_tensors(checkpoint: Checkpoint, precision: str) -> dict[str, ir.TensorProtocol]:
    """The checkpoint's tensors as the graph wants them, each computed only while it is written."""
    stored: dict[str, ir.TensorProtocol] = {}
    for name, tensor in checkpoint.tensors.items():
        if precision == "int8" and tensor.ndim == 2:
            stored |= _lazy_int8(checkpoint, name)
        else:
            dtype = "fp32" if precision == "int8" else precision
            read = functools.partial(_rounded, checkpoint, name, TORCH_TYPES[dtype])
            stored[name] = _lazy(name, tensor.shape, FLOAT_TYPES[dtype], read)
    return stored


def _rounded(checkpoint: Checkpoint, name: str, dtype: torch.dtype) -> torch.Tensor:
    tensor = _read(checkpoint, name)
    rounded = tensor.to(dtype)
    if dtype != torch.float32 and not rounded.isfinite().all():
        raise ValueError(
            f"{name} goes up to {tensor.abs().max():g}, beyond the largest {dtype} number {torch.finfo(dtype).max:g}"
        )
    return rounded


class Exported(NamedTuple):
    """What an exported file was made of, for another graph of the same tensors."""

    config: Any
    tensors: dict[str, ir.TensorProtocol]
    precision: str


def read_exported(path: Path) -> Exported:
    """Configuration and tensors of an exported file; the tensors stay where they are until they are read.

    A model of them that is saved in the same folder shares the data file.

    Raises:
        FileNotFoundError: As `gptloop.model_file.read_model`.
        ValueError: Likewise.
    """
    metadata = read_model(path).metadata
    values = ir.load(path).graph.initializers
    stored = {name: value.const_value for name, value in values.items() if not name.startswith("const_")}
    tensors = {name: tensor for name, tensor in stored.items() if tensor is not None}
    config = SimpleNamespace(**json.loads(metadata[names.META_CONFIG]))
    return Exported(config, tensors, metadata[names.META_PRECISION])


def _lazy_int8(checkpoint: Checkpoint, name: str) -> dict[str, ir.TensorProtocol]:
    """A matrix and its scales: of the columns of a product, of the rows of an embedding or the LM head."""
    per_row = name in ("wte.weight", "wpe.weight", "lm_head.weight")
    shape = checkpoint.tensors[name].shape

    def part(index: int) -> Callable[[], torch.Tensor]:
        return lambda: quantize(_read(checkpoint, name), per_row)[index]

    scales = [shape[0] if per_row else shape[1]]
    return {
        name: _lazy(name, shape, ir.DataType.INT8, part(0)),
        name + SCALE: _lazy(name + SCALE, scales, ir.DataType.FLOAT, part(1)),
    }


def quantize(matrix: torch.Tensor, per_row: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric int8, -127 to 127, with one scale per row or per column.

    Args:
        matrix: float32 [rows, columns].
        per_row: Whether a scale is a row's.

    Returns:
        int8 [rows, columns], and the scales, float32 [rows] or [columns].
    """
    axis = 1 if per_row else 0
    scale = matrix.abs().amax(axis, keepdim=True) / 127
    scale[scale == 0] = 1
    return (matrix / scale).round().to(torch.int8), scale.squeeze(axis)


def _read(checkpoint: Checkpoint, name: str) -> torch.Tensor:
    return _scale_query(checkpoint, name, checkpoint.tensors[name].detach().to("cpu", torch.float32))


def _lazy(name: str, shape: Sequence[int], dtype: ir.DataType, evaluate: Callable[[], torch.Tensor]) -> ir.LazyTensor:
    def tensor() -> ir.TensorProtocol:
        values = evaluate().contiguous()
        if dtype == ir.DataType.BFLOAT16:  # which numpy has no type for
            return ir.tensor(values.view(torch.uint16).numpy().view(dtype.numpy()), name=name)
        return ir.tensor(values.numpy(), name=name)

    return ir.LazyTensor(tensor, dtype=dtype, shape=ir.Shape(shape), name=name)


def _scale_query(checkpoint: Checkpoint, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Fold the scores' factor into the query's columns: 1/8 at the published sizes, so no bit is lost there."""
    found = re.fullmatch(r"h\.(\d+)\.attn\.c_attn\.(weight|bias)", name)
    if not found:
        return tensor
    tensor = tensor.clone()
    tensor[..., : checkpoint.config.n_embd] *= query_scale(checkpoint.config, int(found[1]))
    return tensor


def describe(checkpoint: Checkpoint, precision: str) -> dict[str, str]:
    """The file's metadata."""
    return {
        names.META_VERSION: metadata.version("gptloop"),
        names.META_SOURCE: checkpoint.source,
        names.META_WEIGHTS: checkpoint.weights,
        names.META_CONFIG: json.dumps(checkpoint.config.to_dict(), sort_keys=True),
        names.META_PRECISION: precision,
        names.META_OPSET: str(graph.OPSET),
    }


def _write_tokenizer(tokenizer: bytes, path: Path) -> str:
    """Write the tokenizer beside `path`; the name of its file."""
    with _temporary(path, ".tokenizer.json") as unfinished:
        unfinished.write_bytes(tokenizer)
        return _name_by_content(unfinished, path, ".tokenizer.json").name


def _write_data(model: ir.Model, path: Path, progress: Progress | None) -> None:
    """Write the weights beside `path` under the hash of their content, and make the model refer to them."""
    weights = [tensor for tensor in _initial_tensors(model) if tensor.nbytes >= EXTERNAL_FROM_BYTES]
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


def _initial_tensors(model: ir.Model) -> list[ir.TensorProtocol]:
    """Every tensor that some graph of the model starts with, once."""
    tensors = {id(value.const_value): value.const_value for value in _initializers(model)}
    return [tensor for tensor in tensors.values() if tensor is not None]


def _initializers(model: ir.Model) -> list[ir.Value]:
    return [value for graph in model.graphs() for value in graph.initializers.values()]


def _commit(model: ir.Model, path: Path) -> None:
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
