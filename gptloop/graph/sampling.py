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

from gptloop.graph.attention import LOWEST
from gptloop.graph.cuts import Cuts
from gptloop.graph.inverse_cdf import inverse_cdf, inverse_cdf_in_blocks
from gptloop.graph.logits import Logits
from gptloop.graph.operators import any_of
from gptloop.graph.processors import Processors
from gptloop.graph.scope import branches

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT


class Settings(NamedTuple):
    """Sampling settings of a call, derived once."""

    greedy_S1: ir.Value  # bool
    cuts: Cuts
    scored_S: ir.Value  # bool, whose log-probabilities are asked for
    any_scored: ir.Value  # bool []


class Processing(NamedTuple):
    """What changes one step's logits before the draw."""

    processors: Processors
    step: ir.Value  # int64 [], the number of the token that is drawn
    generated: tuple[ir.Value, ...]  # int64 [S, T], what the rows have generated, if anything


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
        min_p: float32 [B] or [1].
        return_logprobs: bool [B] or [1].
        to_rows: Expands [B] or [1] to [S, 1].
    """
    # Greedy is top-1 at temperature 1: one kept id, with probability 1.
    greedy = op.Equal(temperature, 0.0)
    cuts = Cuts.of(
        op,
        temperature=op.Where(greedy, 1.0, temperature),
        top_k=op.Where(greedy, 1, top_k),  # [B] or [1], broadcast
        top_p=top_p,
        min_p=min_p,
        to_rows=to_rows,
    )
    return Settings(to_rows(greedy), cuts, op.Squeeze(to_rows(return_logprobs), [1]), any_of(op, return_logprobs))


def sample(op: OpBuilder, logits: Logits, uniform_S1: ir.Value, s: Settings, processing: Processing) -> Drawn:
    """Draw one token per row.

    Args:
        op: Operators of the graph that the step stands in.
        logits: [S, V].
        uniform_S1: float32 in [0, 1).
        s: The call's settings.
        processing: What changes logits before the draw. Only a step that needs it pays for it.
    """
    processors, step, generated = processing

    def plain(op: OpBuilder) -> list[ir.Value]:
        return _draw_and_score(op, logits, logits, uniform_S1, s)

    def processed(op: OpBuilder) -> list[ir.Value]:
        return _draw_and_score(op, logits, processors.apply(op, logits, step, generated), uniform_S1, s)

    outputs = [(_I64, ["S"]), (_F32, ["S"]), (_F32, ["S"])]
    return Drawn(*branches(op, processors.needed(op, step), processed, plain, outputs))


def _draw_and_score(op: OpBuilder, raw: Logits, logits: Logits, uniform_S1: ir.Value, s: Settings) -> list[ir.Value]:
    token_S1, prob_S1 = _draw(op, logits.unscaled, uniform_S1, s.cuts.at_scale(op, logits.scale))

    def scores(op: OpBuilder) -> list[ir.Value]:
        # Hugging Face's processed scores of a greedy row know no temperature and no cut.
        own_SV = logits.scaled(op)
        if logits is not raw:
            # Where the first is -inf, ONNX Runtime's ReduceLogSumExp (1.32) takes 0 for the largest, and loses all that
            # are far below.
            own_SV = op.Max(own_SV, LOWEST[_F32])
        own_S1 = _log_softmax_at(op, own_SV, token_S1)
        # ONNX Runtime's Log takes several at once, and what is left over by another routine: the bits would depend on a
        # row's place. A sum's logarithm is taken alone.
        logprob_S1 = op.Where(s.greedy_S1, own_S1, op.ReduceLogSum(prob_S1, [1], keepdims=1))
        raw_S1 = _log_softmax_at(op, raw.scaled(op), token_S1)
        return [op.Where(s.scored_S, op.Squeeze(x_S1, [1]), 0.0) for x_S1 in (logprob_S1, raw_S1)]

    def no_scores(op: OpBuilder) -> list[ir.Value]:
        rows_1 = op.Shape(token_S1, start=0, end=1)
        return [op.Expand(0.0, rows_1), op.Expand(0.0, rows_1)]

    logprobs = branches(op, s.any_scored, scores, no_scores, [(_F32, ["S"])] * 2)
    return [op.Squeeze(token_S1, [1]), *logprobs]


def _draw(op: OpBuilder, logits_SV: ir.Value, uniform_S1: ir.Value, cuts: Cuts) -> tuple[ir.Value, ir.Value]:
    """Token ids and their probabilities, [S, 1] each.

    While every row has a top_k that is no large part of the vocabulary, that is read once, by TopK, and the rest works
    on K numbers per row. The other branch runs over all V.
    """

    def among_k(op: OpBuilder) -> list[ir.Value]:
        candidates = cuts.candidates(op, logits_SV)
        probs_SK = cuts.probabilities_of_k(op, candidates)
        index_S1 = inverse_cdf(op, probs_SK, uniform_S1)
        return [op.GatherElements(x_SK, index_S1, axis=1) for x_SK in (candidates.ids_SK, probs_SK)]

    def among_all(op: OpBuilder) -> list[ir.Value]:
        probs_SV = cuts.probabilities_of_all(op, logits_SV)
        token_S1 = inverse_cdf_in_blocks(op, probs_SV, uniform_S1)
        return [token_S1, op.GatherElements(probs_SV, token_S1, axis=1)]

    token_S1, prob_S1 = branches(op, cuts.of_many, among_all, among_k, [(_I64, ["S", 1]), (_F32, ["S", 1])])
    return token_S1, prob_S1


def _log_softmax_at(op: OpBuilder, logits_SV: ir.Value, token_S1: ir.Value) -> ir.Value:
    """The logarithm of the softmax at one id per row, [S, 1]."""
    return op.Sub(op.GatherElements(logits_SV, token_S1, axis=1), op.ReduceLogSumExp(logits_SV, [1], keepdims=1))
