"""A checkpoint's tensors as the graph stores them, by precision; each is computed only while it is written."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

import onnx_ir as ir
import torch

from gptloop.checkpoint import Checkpoint
from gptloop.checkpoint.checkpoint import TORCH_TYPES
from gptloop.checkpoint.config import query_scale
from gptloop.exporter.calibration import Calibration
from gptloop.exporter.folding import Read, folded_tensors
from gptloop.exporter.int8 import quantize
from gptloop.exporter.rotation import factors
from gptloop.graph.model import FLOAT_TYPES
from gptloop.graph.weights import CHANNELS, INPUT_FACTORS, INPUT_LEAST, INPUT_SCALE, LEFT, RIGHT, SCALE


def stored_tensors(
    checkpoint: Checkpoint, precision: str, calibration: Calibration | None = None
) -> dict[str, ir.TensorProtocol]:
    """The checkpoint's tensors as the graph wants them, each computed only while it is written.

    Args:
        checkpoint: Where they are read.
        precision: What they are stored in.
        calibration: For int8, ranges seen on a text.
    """
    if precision == "int8":
        return _int8_tensors(checkpoint, calibration)
    stored: dict[str, ir.TensorProtocol] = {}
    for name, tensor in checkpoint.tensors.items():
        read = functools.partial(_rounded, checkpoint, name, TORCH_TYPES[precision])
        stored[name] = _lazy(name, tensor.shape, FLOAT_TYPES[precision], read)
    return stored


def check_values(checkpoint: Checkpoint, precision: str) -> None:
    """Refuse values that the precision has no numbers for, before anything is written; reads every tensor once.

    Raises:
        ValueError: Naming the tensor and what is wrong with it: NaN, infinite, or beyond the precision's range.
    """
    dtype = TORCH_TYPES["fp32" if precision == "int8" else precision]
    for name, tensor in checkpoint.tensors.items():
        extremes = torch.stack(torch.aminmax(tensor.detach()))  # NaN if any value is
        if not extremes.isfinite().all():
            found = "NaN" if extremes.isnan().any() else "infinite numbers"
            raise ValueError(f"{checkpoint.source}: {name} holds {found}")
        if _fits(extremes, dtype):
            continue
        # The query's columns are stored scaled, which never makes them larger.
        extremes = torch.stack(torch.aminmax(_scale_query(checkpoint, name, tensor.detach().to("cpu", torch.float64))))
        if not _fits(extremes, dtype):
            beyond = f"beyond the largest {dtype} number {torch.finfo(dtype).max:g}"
            raise ValueError(f"{checkpoint.source}: {name} goes up to {extremes.abs().max():g}, {beyond}")


def _fits(extremes: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool(extremes.float().to(dtype).isfinite().all())


def exact_tensors(checkpoint: Checkpoint, precision: str) -> dict[str, Read]:
    """What `stored_tensors` rounds: the same tensors in float32, each computed when it is called for."""
    if precision == "int8":
        return folded_tensors(checkpoint)
    return {name: functools.partial(_read, checkpoint, name) for name in checkpoint.tensors}


def _rounded(checkpoint: Checkpoint, name: str, dtype: torch.dtype) -> torch.Tensor:
    return _read(checkpoint, name).to(dtype)


def _int8_tensors(checkpoint: Checkpoint, calibration: Calibration | None) -> dict[str, ir.TensorProtocol]:
    """Matrices in 8 bits, each with its scales: of a product's columns, of the rows of an embedding or the head."""
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    V, D = shapes["wte.weight"]
    inner = shapes["h.0.mlp.c_proj.weight"][0]
    a, b = map(len, factors(D))
    own = {LEFT: (a, a), RIGHT: (b, b), f"{CHANNELS}.weight": (a, b), f"{CHANNELS}.bias": (a, b), "lm_head.bias": (V,)}
    stored: dict[str, ir.TensorProtocol] = {}
    for name, folded in folded_tensors(checkpoint, calibration).items():
        read = functools.partial(_finite, checkpoint, name, folded)
        if name.endswith((INPUT_SCALE, INPUT_LEAST)):
            shape: tuple[int, ...] = ()
        else:
            shape = (inner,) if name.endswith(INPUT_FACTORS) else (shapes | own)[name]
        if len(shape) == 2 and name in shapes:
            stored |= _lazy_int8(name, shape, read)
        else:
            stored[name] = _lazy(name, shape, ir.DataType.FLOAT, read)
    return stored


def _finite(checkpoint: Checkpoint, name: str, folded: Read) -> torch.Tensor:
    tensor = folded()
    if not tensor.isfinite().all():
        beyond = f"beyond the largest {tensor.dtype} number {torch.finfo(tensor.dtype).max:g}"
        raise ValueError(f"{checkpoint.source}: {name} goes {beyond} when it is rewritten for int8")
    return tensor


def _lazy_int8(name: str, shape: tuple[int, ...], read: Read) -> dict[str, ir.TensorProtocol]:
    per_row = name in ("wte.weight", "wpe.weight", "lm_head.weight")

    def part(index: int) -> Callable[[], torch.Tensor]:
        return lambda: quantize(read(), per_row)[index]

    scales = [shape[0] if per_row else shape[1]]
    return {
        name: _lazy(name, shape, ir.DataType.INT8, part(0)),
        name + SCALE: _lazy(name + SCALE, scales, ir.DataType.FLOAT, part(1)),
    }


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
