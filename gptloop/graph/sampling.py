"""From logits to one token per row: temperature, top-k, top-p, min-p, and the draw by inverse CDF.

Knows nothing of the transformer or of where the uniform numbers come from. The rule, the same as
`gptloop.reference.sampling`'s, has the order and meaning of Hugging Face's logits processors: divide by the
temperature, keep the `top_k` largest logits (of equal ones, the lower ids), then what `top_p` and `min_p` leave. Then
run through the kept ids in ascending order until the running sum of their probabilities exceeds the uniform number.
Ascending ids, not descending logits, so that two nearly equal logits may change ranks without changing the draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.attention import NEVER
from gptloop.graph.processors import Processors
from gptloop.graph.scope import branches

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT


class Settings(NamedTuple):
    """Sampling settings of a call, derived once; per row where the name ends in a shape."""

    greedy_S1: ir.Value  # bool
    temperature_S1: ir.Value  # float32, 1 where the row is greedy
    top_k_S1: ir.Value  # int64, 1 where the row is greedy, 0 = the whole vocabulary
    top_p_S1: ir.Value  # float32, 2 where nothing is to be cut off, however the running sum is rounded
    min_p: ir.Value  # float32 [1]
    k_max_1: ir.Value  # int64 [1], K: the largest top_k, at least 1
    any_whole: ir.Value  # bool [], whether some row keeps the whole vocabulary
    any_top_p: ir.Value  # bool [], whether some row has a top_p below 1
    return_logprobs: ir.Value  # bool []


class Drawn(NamedTuple):
    """One step's outcome, [S] each; the log-probabilities are 0 unless asked for."""

    token: ir.Value
    logprob: ir.Value
    raw_logprob: ir.Value


def settings(
    op: OpBuilder,
    *,
    temperature: ir.Value,
    top_k: ir.Value,
    top_p: ir.Value,
    min_p: ir.Value,
    return_logprobs: ir.Value,
    to_rows: Callable[[ir.Value], ir.Value],
) -> Settings:
    """Derive what every draw needs, once per call.

    Args:
        op: The outer graph's operators.
        temperature: float32 [B] or [1].
        top_k: int64 [B] or [1].
        top_p: float32 [B] or [1].
        min_p: float32 [1].
        return_logprobs: bool [1].
        to_rows: Expands [B] or [1] to [S, 1].
    """
    # Greedy is top-1 at temperature 1: one kept id, with probability 1.
    greedy = op.Equal(temperature, 0.0)
    top_k = op.Where(greedy, 1, top_k)  # [B] or [1], broadcast
    return Settings(
        greedy_S1=to_rows(greedy),
        temperature_S1=to_rows(op.Where(greedy, 1.0, temperature)),
        top_k_S1=to_rows(top_k),
        top_p_S1=to_rows(op.Where(op.Less(top_p, 1.0), top_p, 2.0)),
        min_p=min_p,
        k_max_1=op.Max(op.ReduceMax(top_k, [0], keepdims=1), [1]),
        any_whole=op.Equal(op.ReduceMin(top_k, keepdims=0), 0),
        any_top_p=op.Less(op.ReduceMin(top_p, keepdims=0), 1.0),
        return_logprobs=op.Squeeze(return_logprobs),
    )


def sample(op: OpBuilder, logits_SV: ir.Value, uniform_S1: ir.Value, s: Settings, processors: Processors) -> Drawn:
    """Draw one token per row.

    Args:
        op: Operators of the graph that the step stands in.
        logits_SV: float32.
        uniform_S1: float32 in [0, 1).
        s: The call's settings.
        processors: What changes logits before the draw. Only a step that needs it pays for it.
    """

    def plain(op: OpBuilder) -> list[ir.Value]:
        return _draw_and_score(op, logits_SV, logits_SV, uniform_S1, s)

    def processed(op: OpBuilder) -> list[ir.Value]:
        return _draw_and_score(op, logits_SV, processors.apply(op, logits_SV), uniform_S1, s)

    outputs = [(_I64, ["S"]), (_F32, ["S"]), (_F32, ["S"])]
    return Drawn(*branches(op, processors.needed(op), processed, plain, outputs))


def _draw_and_score(
    op: OpBuilder, raw_SV: ir.Value, logits_SV: ir.Value, uniform_S1: ir.Value, s: Settings
) -> list[ir.Value]:
    token_S1, prob_S1 = _draw(op, logits_SV, uniform_S1, s)

    def scores(op: OpBuilder) -> list[ir.Value]:
        # Hugging Face's processed scores of a greedy row know no temperature and no cut.
        own_S1 = _log_softmax_at(op, logits_SV, token_S1)
        logprob_S1 = op.Where(s.greedy_S1, own_S1, op.Log(prob_S1))
        return [op.Squeeze(x, [1]) for x in (logprob_S1, _log_softmax_at(op, raw_SV, token_S1))]

    def no_scores(op: OpBuilder) -> list[ir.Value]:
        rows_1 = op.Shape(token_S1, start=0, end=1)
        return [op.Expand(0.0, rows_1), op.Expand(0.0, rows_1)]

    logprobs = branches(op, s.return_logprobs, scores, no_scores, [(_F32, ["S"])] * 2)
    return [op.Squeeze(token_S1, [1]), *logprobs]


def _draw(op: OpBuilder, logits_SV: ir.Value, uniform_S1: ir.Value, s: Settings) -> tuple[ir.Value, ir.Value]:
    """Token ids and their probabilities, [S, 1] each.

    While every row has a top_k, the vocabulary is read once, by TopK, and the rest works on K numbers per row. The
    other branch runs over all V.
    """

    def among_k(op: OpBuilder) -> list[ir.Value]:
        values_SK, ids_SK = _top_k(op, logits_SV, s)
        probs_SK = op.Softmax(op.Div(values_SK, s.temperature_S1), axis=-1)
        probs_SK = _cut(op, probs_SK, _nucleus_threshold(op, probs_SK, s), s)
        ids_SK, order_SK = op.TopK(ids_SK, s.k_max_1, largest=0, sorted=1, _outputs=2)
        index_S1, prob_S1 = inverse_cdf(op, op.GatherElements(probs_SK, order_SK, axis=1), uniform_S1)
        return [op.GatherElements(ids_SK, index_S1, axis=1), prob_S1]

    def among_all(op: OpBuilder) -> list[ir.Value]:
        values_SK, ids_SK = _top_k(op, logits_SV, s)
        nothing_SV = op.Expand(NEVER, op.Shape(logits_SV))
        kept_SV = op.ScatterElements(nothing_SV, ids_SK, values_SK, axis=1)
        logits = op.Where(op.Equal(s.top_k_S1, 0), logits_SV, kept_SV)
        probs_SV = op.Softmax(op.Div(logits, s.temperature_S1), axis=-1)

        def nucleus(op: OpBuilder) -> list[ir.Value]:
            sorted_SV, _ = op.TopK(probs_SV, op.Shape(probs_SV, start=1, end=2), largest=1, sorted=1, _outputs=2)
            return [_nucleus_threshold(op, sorted_SV, s)]

        def no_nucleus(op: OpBuilder) -> list[ir.Value]:
            return [op.Expand(0.0, op.Shape(s.top_p_S1))]

        (threshold_S1,) = branches(op, s.any_top_p, nucleus, no_nucleus, [(_F32, ["S", 1])])
        return list(inverse_cdf(op, _cut(op, probs_SV, threshold_S1, s), uniform_S1))

    token_S1, prob_S1 = branches(op, s.any_whole, among_all, among_k, [(_I64, ["S", 1]), (_F32, ["S", 1])])
    return token_S1, prob_S1


def _top_k(op: OpBuilder, logits_SV: ir.Value, s: Settings) -> tuple[ir.Value, ir.Value]:
    """The K largest logits in descending order and their ids; -inf beyond the row's own top_k."""
    values_SK, ids_SK = op.TopK(logits_SV, s.k_max_1, largest=1, sorted=1, _outputs=2)
    rank_K = op.Range(0, op.Squeeze(s.k_max_1), 1)
    return op.Where(op.Less(rank_K, s.top_k_S1), values_SK, NEVER), ids_SK


def _nucleus_threshold(op: OpBuilder, descending_SC: ir.Value, s: Settings) -> ir.Value:
    """The smallest probability that top_p keeps, [S, 1]: the last one before which less than top_p has been summed."""
    before_SC = op.CumSum(descending_SC, 1, exclusive=1)
    return op.ReduceMin(op.Where(op.Less(before_SC, s.top_p_S1), descending_SC, 2.0), [1], keepdims=1)


def _cut(op: OpBuilder, probs_SC: ir.Value, threshold_S1: ir.Value, s: Settings) -> ir.Value:
    """The probabilities, 0 where top_p's threshold or min_p's share of the largest is not reached."""
    floor_S1 = op.Max(threshold_S1, op.Mul(op.ReduceMax(probs_SC, [1], keepdims=1), s.min_p))
    return op.Where(op.Less(probs_SC, floor_S1), 0.0, probs_SC)


def inverse_cdf(op: OpBuilder, weights_SC: ir.Value, uniform_S1: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Index of the first entry whose running sum exceeds uniform * total, and its share of the total; [S, 1] each.

    Counting the entries whose running sum does not, and is still below the total, cannot run past the last entry with a
    positive weight, however the sums were rounded.
    """
    cdf_SC = op.CumSum(weights_SC, 1)
    total_S1 = op.Slice(cdf_SC, [-1], [2**31 - 1], [1])
    passed = op.And(op.LessOrEqual(cdf_SC, op.Mul(uniform_S1, total_S1)), op.Less(cdf_SC, total_S1))
    index_S1 = op.ReduceSum(op.Cast(passed, to=_I64), [1], keepdims=1)
    return index_S1, op.Div(op.GatherElements(weights_SC, index_S1, axis=1), total_S1)


def _log_softmax_at(op: OpBuilder, logits_SV: ir.Value, token_S1: ir.Value) -> ir.Value:
    """The logarithm of the softmax at one id per row, [S, 1]."""
    return op.Sub(op.GatherElements(logits_SV, token_S1, axis=1), op.ReduceLogSumExp(logits_SV, [1], keepdims=1))
