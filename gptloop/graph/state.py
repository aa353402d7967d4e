"""What one call of a generation hands to the next: inputs that have a default, and outputs of the same kinds.

A call without them starts from the prompts alone. With K and V of prompts it computes those of the tokens behind them
only; with tokens that the rows have generated, too, it goes on from the last of these. Knows the layers' sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from gptloop import names
from gptloop.graph.attention import GeneratedCache, PromptCache
from gptloop.graph.call import Call
from gptloop.graph.transformer import Transformer

Inputs = dict[str, tuple[ir.DataType, list[int | str]]]
KINDS = ("key", "value")


class Past(NamedTuple):
    """What an earlier call has left, or nothing.

    Attributes:
        prompts: K and V, the newest token first, of which L tokens are each prompt's, or, of one row, all prompts'; by
            layer.
        rows: K and V of the first E tokens of each row, by layer.
        block: The same of the other tokens but the last.
        E: int64 [1].
        sequences: int64 [B, R, G or more], those tokens and the last one.
        ended: bool [B, R], read where G is not 0.
        wanted: bool [1], whether this call shall leave something itself.
    """

    prompts: list[PromptCache]
    rows: list[GeneratedCache]
    block: list[GeneratedCache]
    E: ir.Value
    sequences: ir.Value
    ended: ir.Value
    wanted: ir.Value

    @classmethod
    def of(cls, op: OpBuilder, inputs: Mapping[str, ir.Value], transformer: Transformer, call: Call) -> Past:
        """From the graph's inputs by name."""
        _, _, E = sizes(op, inputs)

        def by_layer(name: str) -> list[list[ir.Value]]:
            return [[inputs[f"{name}.{layer}.{kind}"] for kind in KINDS] for layer in range(transformer.n_layer)]

        return cls(
            prompts=[PromptCache(*pair) for pair in by_layer(names.PAST_PROMPT)],
            rows=[GeneratedCache(*pair) for pair in by_layer(names.PAST_ROWS)],
            block=[GeneratedCache(*pair) for pair in by_layer(names.PAST_BLOCK)],
            E=E,
            sequences=inputs[names.PAST_SEQUENCES],
            ended=inputs[names.PAST_ENDED],
            # No call is without tokens, but a runtime must not know: a branch that is never taken crashes OpenVINO.
            wanted=op.And(inputs[names.RETURN_STATE], op.Greater(call.P, 0)),
        )


def sizes(op: OpBuilder, inputs: Mapping[str, ir.Value]) -> list[ir.Value]:
    """L, G and E, int64 [1] each."""
    return list(op.Split(inputs[names.PAST_SIZES], axis=0, num_outputs=3, _outputs=3))


def past_inputs(transformer: Transformer) -> Inputs:
    """The inputs' types and shapes by name."""
    rows: list[int | str] = ["B_past", "R_past"]
    return {
        names.PAST_SIZES: (ir.DataType.INT64, [3]),
        names.PAST_SEQUENCES: (ir.DataType.INT64, [*rows, "G"]),
        names.PAST_ENDED: (ir.DataType.BOOL, rows),
        names.RETURN_STATE: (ir.DataType.BOOL, [1]),
        names.UNIFORMS: (ir.DataType.FLOAT, ["steps", "rows", 1]),
        **_caches(transformer, names.PAST_PROMPT, "B_past", "L"),
        **_caches(transformer, names.PAST_ROWS, "B_past", "R_past", "E"),
        **_caches(transformer, names.PAST_BLOCK, "B_past", "R_past", "C"),
    }


def add_defaults(builder: GraphBuilder, transformer: Transformer) -> None:
    """Let the inputs be left out. Done last: no value is to be inferred from what is only a default.

    Of what a call decides, a default has one each, which `past_sizes` says not to read, or its sign: OpenVINO (2026.4)
    takes a constant without elements for a scalar.
    """
    inputs = {value.name: value for value in builder.graph.inputs}
    for name, (dtype, shape) in past_inputs(transformer).items():
        dims = [dim if isinstance(dim, int) else 1 for dim in shape]
        off = np.full(dims, -1 if name == names.UNIFORMS else 0, dtype.numpy())
        inputs[name].const_value = ir.tensor(off, dtype=dtype, name=name)
        builder.graph.initializers[name] = inputs[name]


def add_present(
    builder: GraphBuilder,
    transformer: Transformer,
    prompts: Sequence[PromptCache],
    rows: Sequence[GeneratedCache],
    block: Sequence[GeneratedCache],
) -> None:
    """Declare K and V as outputs, under the names of the inputs with `present` in place of `past`."""
    described = {
        **_caches(transformer, names.PRESENT_PROMPT, "B", "P_even"),
        **_caches(transformer, names.PRESENT_ROWS, "B", "R", "E_present"),
        **_caches(transformer, names.PRESENT_BLOCK, "B", "R", "C_present"),
    }
    values = [kv for caches in (prompts, rows, block) for cache in caches for kv in cache]
    for (name, (dtype, shape)), value in zip(described.items(), values, strict=True):
        value.dtype, value.shape = dtype, ir.Shape(shape)
        builder.add_output(value, name)


def _caches(transformer: Transformer, name: str, *batch_and_length: str) -> Inputs:
    """Of the prompts, [B, H, d, L] and [B, H, L, d]; of the rows, [B, H, R, E, d] both."""
    B, *R, length = batch_and_length
    H, d = transformer.n_head, transformer.head_dim
    value: list[int | str] = [B, H, *R, length, d]
    key: list[int | str] = value if R else [B, H, d, length]
    layers = range(transformer.n_layer)
    return {
        f"{name}.{layer}.{kind}": (transformer.dtype, shape)
        for layer in layers
        for kind, shape in zip(KINDS, (key, value), strict=True)
    }
