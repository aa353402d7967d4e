"""What the Loops' bodies and the branches around them take and give: names, types and shapes.

Knows the layers' sizes; not what the bodies compute.
"""

from __future__ import annotations

import onnx_ir as ir

from gptloop.graph.scope import GROWS, Kinds
from gptloop.graph.transformer import Transformer

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


def step_signature(transformer: Transformer) -> tuple[list[ir.Value], list[ir.Value]]:
    """Inputs and outputs of a step's body, the inner Loop's."""
    inputs = [
        ir.val("iteration", _I64, []),
        ir.val("condition", _BOOL, []),
        ir.val("went_on", _BOOL, []),
        ir.val("token_past", _I64, ["S"]),
        ir.val("generated_past", _I64, ["S", GROWS]),
        ir.val("ended_past", _BOOL, ["S"]),
        *_caches("past", transformer, GROWS),
    ]
    outputs = [
        ir.val("condition_out", _BOOL, []),
        ir.val("goes_on", _BOOL, []),
        ir.val("token_present", _I64, ["S"]),
        ir.val("generated_present", _I64, ["S", GROWS]),
        ir.val("ended_present", _BOOL, ["S"]),
        *_caches("present", transformer, GROWS),
        ir.val("logprob", _F32, ["S"]),
        ir.val("raw_logprob", _F32, ["S"]),
    ]
    return inputs, outputs


def block_signature(transformer: Transformer) -> tuple[list[ir.Value], list[ir.Value]]:
    """Inputs and outputs of a block's body, the outer Loop's."""
    inputs = [
        ir.val("trip", _I64, []),
        ir.val("block_condition", _BOOL, []),
        ir.val("block_token_past", _I64, ["S"]),
        ir.val("block_generated_past", _I64, ["S", GROWS]),
        ir.val("block_ended_past", _BOOL, ["S"]),
        ir.val("block_logprob_past", _F32, [GROWS, "S"]),
        ir.val("block_raw_logprob_past", _F32, [GROWS, "S"]),
        *_caches("earlier", transformer, GROWS),
        *_caches("begun", transformer, GROWS),
    ]
    outputs = [
        ir.val("block_condition_out", _BOOL, []),
        ir.val("block_token_present", _I64, ["S"]),
        ir.val("block_generated_present", _I64, ["S", GROWS]),
        ir.val("block_ended_present", _BOOL, ["S"]),
        ir.val("block_logprob_present", _F32, [GROWS, "S"]),
        ir.val("block_raw_logprob_present", _F32, [GROWS, "S"]),
        *_caches("later", transformer, GROWS),
        *_caches("begun_later", transformer, GROWS),
    ]
    return inputs, outputs


def rows_kinds(transformer: Transformer, length: str | None) -> Kinds:
    """K and V of tokens of the rows, layer by layer; each length has a name of its own."""
    kinds: Kinds = [(transformer.dtype, ["B", transformer.n_head, "R", length, transformer.head_dim])]
    return kinds * 2 * transformer.n_layer


def _caches(prefix: str, transformer: Transformer, length: str | None) -> list[ir.Value]:
    names = [f"{prefix}_{kind}.{layer}" for layer in range(transformer.n_layer) for kind in ("key", "value")]
    return [ir.val(name, *kind) for name, kind in zip(names, rows_kinds(transformer, length), strict=True)]
