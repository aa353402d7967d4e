"""The end of a row: which tokens are padding from there on, and whether any row goes on.

A row ends with an end of text, or with the token that completes a stop sequence. Of that, generated tokens count only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches
from gptloop.graph.sequences import ending_with, last_of, last_tokens

_I64, _I32, _F32, _BOOL = ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT, ir.DataType.BOOL


class Stopped(NamedTuple):
    """One step after the stop rule."""

    drawn: Drawn
    ended_S: ir.Value  # bool
    go_on: ir.Value  # bool []


class Stop(NamedTuple):
    """What ends a call's rows."""

    eos_token_ids: ir.Value  # int64 [E]
    sequences_QW: ir.Value  # int64, as gptloop.graph.sequences has them
    pad_token_id: ir.Value  # int64 [1]
    has_end: ir.Value  # bool [], whether there is an end of text at all
    has_sequences: ir.Value  # bool [], whether there are stop sequences
    active: ir.Value  # bool [], whether there is either

    @classmethod
    def read(cls, op: OpBuilder, inputs: Mapping[str, ir.Value]) -> Stop:
        """From the graph's inputs by name."""
        eos_token_ids, sequences_QW = inputs[names.EOS_TOKEN_IDS], inputs[names.STOP_SEQUENCES]
        has_end, has_sequences = (
            op.GreaterOrEqual(op.ReduceMax(ids, keepdims=0), 0) for ids in (eos_token_ids, last_of(op, sequences_QW))
        )
        active = op.Or(has_end, has_sequences)
        return cls(eos_token_ids, sequences_QW, inputs[names.PAD_TOKEN_ID], has_end, has_sequences, active)

    def apply(self, op: OpBuilder, drawn: Drawn, ended_S: ir.Value, generated: tuple[ir.Value, ...]) -> Stopped:
        """Pad the rows that have ended before this step, and see which end with it.

        Without anything that ends a row, the branch that is taken has no condition to compute.

        Args:
            op: Operators of the graph that the step stands in.
            drawn: The step's tokens.
            ended_S: bool, the rows that have ended.
            generated: int64 [S, T], what the rows have generated before, if anything.
        """

        def with_end(op: OpBuilder) -> list[ir.Value]:
            token_S = op.Where(ended_S, self.pad_token_id, drawn.token)
            logprobs = [op.Where(ended_S, 0.0, x) for x in (drawn.logprob, drawn.raw_logprob)]
            token_S1 = op.Unsqueeze(token_S, [1])
            is_end_S = _any(op, op.Equal(token_S1, self.eos_token_ids))
            now_S = op.Or(op.Or(ended_S, is_end_S), self._completing(op, (*generated, token_S1)))
            running = op.ReduceMax(op.Cast(op.Not(now_S), to=_I32), keepdims=0)
            return [token_S, *logprobs, now_S, op.Cast(running, to=_BOOL)]

        def without_end(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(x) for x in (*drawn, ended_S, True)]

        outputs = [(_I64, ["S"]), (_F32, ["S"]), (_F32, ["S"]), (_BOOL, ["S"]), (_BOOL, [])]
        *padded, ended_S, go_on = branches(op, self.active, with_end, without_end, outputs)
        return Stopped(Drawn(*padded), ended_S, go_on)

    def _completing(self, op: OpBuilder, generated: tuple[ir.Value, ...]) -> ir.Value:
        """Which rows' generated tokens end with a stop sequence: bool [S]."""

        def completing(op: OpBuilder) -> list[ir.Value]:
            tokens_SW = last_tokens(op, generated, op.Shape(self.sequences_QW, start=1, end=2))
            complete_SQ = ending_with(op, tokens_SW, self.sequences_QW)
            return [_any(op, op.And(complete_SQ, op.GreaterOrEqual(last_of(op, self.sequences_QW), 0)))]

        def none(op: OpBuilder) -> list[ir.Value]:
            return [op.Expand(False, op.Shape(generated[-1], start=0, end=1))]

        (completing_S,) = branches(op, self.has_sequences, completing, none, [(_BOOL, ["S"])])
        return completing_S


def _any(op: OpBuilder, holds_SC: ir.Value) -> ir.Value:
    return op.Cast(op.ReduceMax(op.Cast(holds_SC, to=_I32), [1], keepdims=0), to=_BOOL)
