"""From logits to one token per row: temperature, top-k, and the draw by inverse CDF.

Knows nothing of the transformer or of where the uniform numbers come from. The rule, the same as
`gptloop.torch_loop`'s: keep the `top_k` largest logits (equal ones: the lower ids), divide by the temperature, softmax,
and run through the kept ids in ascending order until the running sum exceeds the uniform number. Ascending ids, not
descending logits, so that two nearly equal logits may change ranks without changing the draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.attention import NEVER
from gptloop.graph.scope import subgraph


class Settings(NamedTuple):
    """Sampling settings of a call, per row where the name ends in a shape."""

    temperature_S1: ir.Value  # float32, 1 where the row is greedy
    top_k_S1: ir.Value  # int64, 1 where the row is greedy, 0 = the whole vocabulary
    k_max_1: ir.Value  # int64 [1], K: the largest top_k, at least 1
    any_whole: ir.Value  # bool [], whether some row keeps the whole vocabulary


def settings(
    op: OpBuilder, temperature: ir.Value, top_k: ir.Value, to_rows: Callable[[ir.Value], ir.Value]
) -> Settings:
    """Derive what every draw needs, once per call.

    Args:
        op: The outer graph's operators.
        temperature: float32 [B] or [1].
        top_k: int64 [B] or [1].
        to_rows: Expands [B] or [1] to [S, 1].
    """
    # Greedy is top-1 at temperature 1: one kept id, with probability 1.
    greedy = op.Equal(temperature, 0.0)
    top_k = op.Where(greedy, 1, top_k)  # [B] or [1], broadcast
    temperature = op.Where(greedy, 1.0, temperature)
    return Settings(
        temperature_S1=to_rows(temperature),
        top_k_S1=to_rows(top_k),
        k_max_1=op.Max(op.ReduceMax(top_k, [0], keepdims=1), [1]),
        any_whole=op.Equal(op.ReduceMin(top_k, keepdims=0), 0),
    )


def sample(op: OpBuilder, logits_SV: ir.Value, uniform_S1: ir.Value, s: Settings) -> ir.Value:
    """Draw one token id per row; int64 [S].

    While every row has a top_k, the vocabulary is read once, by TopK, and the rest works on K numbers per row. The
    other branch sorts nothing and runs over all V.
    """

    def among_k(op: OpBuilder) -> ir.Value:
        values_SK, ids_SK = _top_k(op, logits_SV, s)
        ids_SK, order_SK = op.TopK(ids_SK, s.k_max_1, largest=0, sorted=1, _outputs=2)
        probs_SK = _probabilities(op, op.GatherElements(values_SK, order_SK, axis=1), s)
        return _row_pick(op, ids_SK, _draw(op, probs_SK, uniform_S1))

    def among_all(op: OpBuilder) -> ir.Value:
        values_SK, ids_SK = _top_k(op, logits_SV, s)
        nothing_SV = op.Expand(NEVER, op.Shape(logits_SV))
        kept_SV = op.ScatterElements(nothing_SV, ids_SK, values_SK, axis=1)
        whole_S1 = op.Equal(s.top_k_S1, 0)
        probs_SV = _probabilities(op, op.Where(whole_S1, logits_SV, kept_SV), s)
        return op.Squeeze(_draw(op, probs_SV, uniform_S1), [1])

    def branch(trace: Callable[[OpBuilder], ir.Value]) -> ir.Graph:
        return subgraph(op, trace, [], [ir.val("", ir.DataType.INT64, ["S"])])

    return op.If(s.any_whole, then_branch=branch(among_all), else_branch=branch(among_k))


def _top_k(op: OpBuilder, logits_SV: ir.Value, s: Settings) -> tuple[ir.Value, ir.Value]:
    """The K largest logits in descending order and their ids; -inf beyond the row's own top_k."""
    values_SK, ids_SK = op.TopK(logits_SV, s.k_max_1, largest=1, sorted=1, _outputs=2)
    rank_K = op.Range(0, op.Squeeze(s.k_max_1), 1)
    return op.Where(op.Less(rank_K, s.top_k_S1), values_SK, NEVER), ids_SK


def _probabilities(op: OpBuilder, logits: ir.Value, s: Settings) -> ir.Value:
    return op.Softmax(op.Div(logits, s.temperature_S1), axis=-1)


def _draw(op: OpBuilder, probs_SC: ir.Value, uniform_S1: ir.Value) -> ir.Value:
    """Index of the first entry whose running sum exceeds uniform * total; int64 [S, 1].

    Counting the entries whose running sum does not, and is still below the total, cannot run past the last entry with a
    positive probability, however the sums were rounded.
    """
    cdf_SC = op.CumSum(probs_SC, 1)
    total_S1 = op.Slice(cdf_SC, [-1], [2**31 - 1], [1])
    passed = op.And(op.LessOrEqual(cdf_SC, op.Mul(uniform_S1, total_S1)), op.Less(cdf_SC, total_S1))
    return op.ReduceSum(op.Cast(passed, to=ir.DataType.INT64), [1], keepdims=1)


def _row_pick(op: OpBuilder, table_SC: ir.Value, index_S1: ir.Value) -> ir.Value:
    return op.Squeeze(op.GatherElements(table_SC, index_S1, axis=1), [1])
