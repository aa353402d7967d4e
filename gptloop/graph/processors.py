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
        penalty_S1: float32.
        penalized: bool [], whether some row's penalty is not 1.
        seen: int64 [S, ...] each, the row's tokens so far, in parts.
        early_S1: bool, whether the step comes too early for a row's end of text.
        any_early: bool [].
        eos_SE: int64, the rows' ends of text; of a row that is never early, any ids.
    """

    penalty_S1: ir.Value
    penalized: ir.Value
    seen: tuple[ir.Value, ...]
    early_S1: ir.Value
    any_early: ir.Value
    eos_SE: ir.Value

    def needed(self, op: OpBuilder) -> ir.Value:
        """Whether `apply` would change anything: bool []."""
        return op.Or(self.penalized, self.any_early)

    def apply(self, op: OpBuilder, logits_SV: ir.Value) -> ir.Value:
        """Logits [S, V] -> logits [S, V]."""
        changed_SV = logits_SV
        for seen_SL in self.seen:
            # Reading the original scores, an id that occurs several times is penalized once.
            scores_SL = op.GatherElements(logits_SV, seen_SL, axis=1)
            less_SL = op.Where(
                op.Less(scores_SL, 0.0), op.Mul(scores_SL, self.penalty_S1), op.Div(scores_SL, self.penalty_S1)
            )
            changed_SV = op.ScatterElements(changed_SV, seen_SL, less_SL, axis=1)
        eos_scores_SE = op.Where(self.early_S1, NEVER, op.GatherElements(changed_SV, self.eos_SE, axis=1))
        return op.ScatterElements(changed_SV, self.eos_SE, eos_scores_SE, axis=1)
