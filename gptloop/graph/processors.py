"""What changes logits before they are cut and drawn from: the repetition penalty, and no end of text too early.

The order and meaning are Hugging Face's RepetitionPenaltyLogitsProcessor and MinNewTokensLengthLogitsProcessor, except
that padding is not taken for text that must not be repeated.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.attention import NEVER


class Processors(NamedTuple):
    """One step's rules.

    Attributes:
        penalty: float32 [1].
        penalized: bool [], whether the penalty is not 1.
        seen: int64 [S, ...] each, the row's tokens so far, in parts.
        early: bool [], whether the step comes too early for an end of text.
        eos_token_ids: int64 [E].
    """

    penalty: ir.Value
    penalized: ir.Value
    seen: tuple[ir.Value, ...]
    early: ir.Value
    eos_token_ids: ir.Value

    def needed(self, op: OpBuilder) -> ir.Value:
        """Whether `apply` would change anything: bool []."""
        return op.Or(self.penalized, self.early)

    def apply(self, op: OpBuilder, logits_SV: ir.Value) -> ir.Value:
        """Logits [S, V] -> logits [S, V]."""
        changed_SV = logits_SV
        for seen_SL in self.seen:
            # Reading the original scores, an id that occurs several times is penalized once.
            scores_SL = op.GatherElements(logits_SV, seen_SL, axis=1)
            less_SL = op.Where(
                op.Less(scores_SL, 0.0), op.Mul(scores_SL, self.penalty), op.Div(scores_SL, self.penalty)
            )
            changed_SV = op.ScatterElements(changed_SV, seen_SL, less_SL, axis=1)
        rows_1 = op.Shape(logits_SV, start=0, end=1)
        eos_SE = op.Expand(self.eos_token_ids, op.Concat(rows_1, op.Shape(self.eos_token_ids), axis=0))
        eos_scores_SE = op.Where(self.early, NEVER, op.GatherElements(changed_SV, eos_SE, axis=1))
        return op.ScatterElements(changed_SV, eos_SE, eos_scores_SE, axis=1)
