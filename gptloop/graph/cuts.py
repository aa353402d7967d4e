"""Which ids a draw chooses from: top-k and top-p by rank, min-p by value.

Rank is by descending logit and, among equal ones, by ascending id; so top_k keeps exactly k, and top_p the fewest whose
probabilities reach it. What is cut by rank is cut by a threshold, the logit of the last rank that is kept, and by how
many of those equal to it there is room for, the lower ids first: TopK's logits are the same in every runtime, but which
ids it names for equal ones is not (OpenVINO 2026.4, which also leaves the wrong ones out where the last rank is tied).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.attention import NEVER
from gptloop.graph.inverse_cdf import FEW, inverse_cdf, inverse_cdf_in_blocks
from gptloop.graph.operators import END
from gptloop.graph.scope import branches

_I64, _I32, _F32 = ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT
_PROBED = 64  # equal numbers whose TopK shows how a runtime ranks them


class Candidates(NamedTuple):
    """A row's K first ranks, [S, K] each."""

    ids_SK: ir.Value  # int64, ascending
    logits_SK: ir.Value  # float32, of these ids
    descending_SK: ir.Value  # float32, the same by rank


class Cuts(NamedTuple):
    """A call's settings of what is cut off, derived once; per row where the name ends in a shape."""

    temperature_S1: ir.Value  # float32, 1 where the row is greedy
    top_k_S1: ir.Value  # int64, 1 where the row is greedy, 0 = the whole vocabulary
    top_p_S1: ir.Value  # float32, less the rounding of a sum that just reaches it
    has_top_p_S1: ir.Value  # bool, whether the row's top_p is below 1
    log_min_p_S1: ir.Value  # float32, -inf where min_p is 0
    k_max_1: ir.Value  # int64, K: the largest top_k, at least 1
    of_many: ir.Value  # bool [], whether some row keeps the whole vocabulary, or a large part of it
    any_top_p: ir.Value  # bool [], whether some row has a top_p below 1
    by_rank: ir.Value  # bool [], whether some row's ids are cut by rank, beyond what all of few candidates are
    any: ir.Value  # bool [], whether anything is cut off beyond that
    ties_by_id: ir.Value  # bool [], whether this runtime's TopK ranks equal numbers by ascending id

    @classmethod
    def of(
        cls,
        op: OpBuilder,
        *,
        temperature: ir.Value,
        top_k: ir.Value,
        top_p: ir.Value,
        min_p: ir.Value,
        to_rows: Callable[[ir.Value], ir.Value],
    ) -> Cuts:
        """From settings that know no greedy row; arguments as `gptloop.graph.sampling.settings`."""
        k_max_1, k_min_1 = (reduce(top_k, [0], keepdims=1) for reduce in (op.ReduceMax, op.ReduceMin))
        any_top_p = op.Less(op.ReduceMin(top_p, keepdims=0), 1.0)
        k_max, k_min = op.Squeeze(k_max_1), op.Squeeze(k_min_1)
        large = op.Greater(k_max, FEW)
        by_rank = op.Or(any_top_p, op.Or(large, op.Not(op.Equal(k_min, k_max))))
        return cls(
            temperature_S1=to_rows(temperature),
            top_k_S1=to_rows(top_k),
            top_p_S1=to_rows(op.Mul(top_p, names.TOP_P_REACHED)),
            has_top_p_S1=to_rows(op.Less(top_p, 1.0)),
            log_min_p_S1=to_rows(op.Where(op.Greater(min_p, 0.0), op.Log(op.Max(min_p, 1e-37)), NEVER)),
            k_max_1=op.Max(k_max_1, [1]),
            of_many=op.Or(op.Equal(k_min, 0), large),
            any_top_p=any_top_p,
            by_rank=by_rank,
            any=op.Or(by_rank, op.Greater(op.ReduceMax(min_p, keepdims=0), 0.0)),
            ties_by_id=_ties_by_id(op, k_min_1),
        )

    def at_scale(self, op: OpBuilder, scale_S1: ir.Value | None) -> Cuts:
        """The same for logits that are still to be multiplied by a row's scale: it divides the temperature."""
        if scale_S1 is None:
            return self
        return self._replace(temperature_S1=op.Div(self.temperature_S1, scale_S1))

    def candidates(self, op: OpBuilder, logits_SV: ir.Value) -> Candidates:
        """The K first ranks."""

        def named(op: OpBuilder) -> list[ir.Value]:
            descending_SK, ids_SK = op.TopK(logits_SV, self.k_max_1, largest=1, sorted=1, _outputs=2)
            ids_SK, order_SK = op.TopK(ids_SK, self.k_max_1, largest=0, sorted=1, _outputs=2)
            return [ids_SK, op.GatherElements(descending_SK, order_SK, axis=1), descending_SK]

        def found(op: OpBuilder) -> list[ir.Value]:
            descending_SK, _ = op.TopK(logits_SV, self.k_max_1, largest=1, sorted=1, _outputs=2)
            last_S1 = op.Slice(descending_SK, [-1], [END], [1])
            kept_SV = _first_ranks(op, logits_SV, last_S1, self.k_max_1)
            V = op.Shape(logits_SV, start=1, end=2)
            ids_SV = op.Where(kept_SV, op.Range(0, op.Squeeze(V), 1), V)
            ids_SK, _ = op.TopK(ids_SV, self.k_max_1, largest=0, sorted=1, _outputs=2)
            return [ids_SK, op.GatherElements(logits_SV, ids_SK, axis=1), descending_SK]

        outputs = [(_I64, ["S", "K"]), (_F32, ["S", "K"]), (_F32, ["S", "K"])]
        return Candidates(*branches(op, self.ties_by_id, named, found, outputs))

    def probabilities_of_k(self, op: OpBuilder, of: Candidates) -> ir.Value:
        """The candidates' probabilities, 0 where a row's settings cut them off."""

        def cut(op: OpBuilder) -> list[ir.Value]:
            number_S1 = op.Min(self.top_k_S1, self._reaching_top_p(op, of.descending_SK, self.top_k_S1, inverse_cdf))
            last_S1 = op.GatherElements(of.descending_SK, op.Sub(number_S1, 1), axis=1)
            kept_SK = _first_ranks(op, of.logits_SK, last_S1, number_S1)
            return [self._above_min_p(op, op.Where(kept_SK, of.logits_SK, NEVER))]

        return self._softmax_of(op, of.logits_SK, cut, ["S", "K"])

    def probabilities_of_all(self, op: OpBuilder, logits_SV: ir.Value) -> ir.Value:
        """The whole vocabulary's probabilities, 0 where a row's settings cut them off."""
        V = op.Shape(logits_SV, start=1, end=2)

        def by_rank(op: OpBuilder) -> list[ir.Value]:
            ranks_1 = op.Where(self.any_top_p, V, self.k_max_1)
            descending_SC, _ = op.TopK(logits_SV, ranks_1, largest=1, sorted=1, _outputs=2)
            top_k_S1 = op.Where(op.Equal(self.top_k_S1, 0), V, self.top_k_S1)

            def top_p(op: OpBuilder) -> list[ir.Value]:
                return [op.Min(top_k_S1, self._reaching_top_p(op, descending_SC, top_k_S1, inverse_cdf_in_blocks))]

            def no_top_p(op: OpBuilder) -> list[ir.Value]:
                return [op.Identity(top_k_S1)]

            (number_S1,) = branches(op, self.any_top_p, top_p, no_top_p, [(_I64, ["S", 1])])
            last_S1 = op.GatherElements(descending_SC, op.Sub(op.Min(number_S1, ranks_1), 1), axis=1)
            last_S1 = op.Where(op.Equal(number_S1, V), NEVER, last_S1)
            return [op.Where(_first_ranks(op, logits_SV, last_S1, number_S1), logits_SV, NEVER)]

        def no_rank(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(logits_SV)]

        def cut(op: OpBuilder) -> list[ir.Value]:
            (ranked_SV,) = branches(op, self.by_rank, by_rank, no_rank, [(_F32, ["S", "V"])])
            return [self._above_min_p(op, ranked_SV)]

        return self._softmax_of(op, logits_SV, cut, ["S", "V"])

    def _softmax_of(
        self, op: OpBuilder, logits_SC: ir.Value, cut: Callable[[OpBuilder], list[ir.Value]], shape: list[int | str]
    ) -> ir.Value:
        """Softmax of what `cut` leaves, or, where nothing is cut off, of all."""

        def of_the_rest(op: OpBuilder) -> list[ir.Value]:
            return [op.Softmax(*cut(op), axis=-1)]

        def of_all(op: OpBuilder) -> list[ir.Value]:
            return [op.Softmax(op.Div(logits_SC, self.temperature_S1), axis=-1)]

        (probs_SC,) = branches(op, self.any, of_the_rest, of_all, [(_F32, shape)])
        return probs_SC

    def _reaching_top_p(
        self,
        op: OpBuilder,
        descending_SC: ir.Value,
        top_k_S1: ir.Value,
        search: Callable[[OpBuilder, ir.Value, ir.Value], ir.Value],
    ) -> ir.Value:
        """How many of the first ranks reach top_p; where a row has none, more than it could have."""
        ranks_C = op.Range(0, op.Squeeze(op.Shape(descending_SC, start=1, end=2)), 1)
        kept_SC = op.Where(op.Less(ranks_C, top_k_S1), descending_SC, NEVER)
        probs_SC = op.Softmax(op.Div(kept_SC, self.temperature_S1), axis=-1)
        number_S1 = op.Add(search(op, probs_SC, self.top_p_S1), 1)
        return op.Where(self.has_top_p_S1, number_S1, top_k_S1)

    def _above_min_p(self, op: OpBuilder, logits_SC: ir.Value) -> ir.Value:
        """Logits over the temperature, -inf where the probability is less than min_p's share of the largest."""
        scaled_SC = op.Div(logits_SC, self.temperature_S1)
        share_SC = op.Sub(scaled_SC, op.ReduceMax(scaled_SC, [1], keepdims=1))
        return op.Where(op.Less(share_SC, self.log_min_p_S1), NEVER, scaled_SC)


def _first_ranks(op: OpBuilder, logits_SC: ir.Value, last_S1: ir.Value, number: ir.Value) -> ir.Value:
    """Which entries, in the order of their ids, have one of the first ranks: bool [S, C].

    Args:
        op: Operators.
        logits_SC: float32.
        last_S1: float32, the logit of the last rank.
        number: int64 [S, 1] or [1], how many ranks.
    """
    above_SC, equal_SC = op.Greater(logits_SC, last_S1), op.Equal(logits_SC, last_S1)
    above_S1 = op.ReduceSum(op.Cast(above_SC, to=_I32), [1], keepdims=1)
    room_S1 = op.Sub(op.Cast(number, to=_I32), above_S1)
    count_SC = op.CumSum(op.Cast(equal_SC, to=_I32), 1)
    return op.Or(above_SC, op.And(equal_SC, op.LessOrEqual(count_SC, room_S1)))


def _ties_by_id(op: OpBuilder, top_k_1: ir.Value) -> ir.Value:
    """Whether TopK ranks equal numbers by ascending id, as its specification has it; seen on numbers made at run time.

    For what is constant a runtime may compute when it loads the file, with another implementation.
    """
    zero_1 = op.Cast(op.Less(top_k_1, 0), to=_F32)
    _, ids = op.TopK(op.Expand(zero_1, [_PROBED]), [_PROBED // 2], largest=1, sorted=1, _outputs=2)
    wrong = op.Cast(op.Not(op.Equal(ids, op.Range(0, _PROBED // 2, 1))), to=_I32)
    return op.Equal(op.ReduceMax(wrong, keepdims=0), 0)
