"""The end of a row: which tokens are padding from there on, and whether any row goes on.

A row ends with an end of text, or with the token that completes a stop sequence, of which generated tokens count only;
or with the last token that its prompt asked for, where the call goes on for another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.call import NO_STEP
from gptloop.graph.operators import any_of
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches
from gptloop.graph.sequences import ending_with, last_of, last_tokens

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


class Stopped(NamedTuple):
    """One step after the stop rule."""

    drawn: Drawn
    ended_S: ir.Value  # bool
    go_on: ir.Value  # bool []


class Stop(NamedTuple):
    """What ends a call's rows."""

    eos_SM: ir.Value  # int64; -1 alone in a row without an end of text
    sequences_SQW: ir.Value  # int64, as gptloop.graph.sequences has them
    pad_S: ir.Value  # int64
    limit_S: ir.Value  # int64, the step from which on a row gets padding, as `step_limit` has it
    has_sequences: ir.Value  # bool [], whether there are stop sequences
    active: ir.Value  # bool [], whether a row may end before the call does

    @classmethod
    def read(
        cls,
        op: OpBuilder,
        inputs: Mapping[str, ir.Value],
        limit_S: ir.Value,
        to_rows: Callable[[ir.Value], ir.Value],
    ) -> Stop:
        """From the graph's inputs by name; the other arguments as `Stop` and `Processors.read` have them."""
        eos_SM, sequences_SQW = to_rows(inputs[names.EOS_TOKEN_IDS]), to_rows(inputs[names.STOP_SEQUENCES])
        # One of the row's own stands in for what follows them, so that it forbids no token.
        last_S1 = op.ReduceMax(eos_SM, [1], keepdims=1)
        eos_SM = op.Where(op.Less(eos_SM, 0), last_S1, eos_SM)
        has_end, has_sequences = (
            op.GreaterOrEqual(op.ReduceMax(ids, keepdims=0), 0) for ids in (last_S1, last_of(op, sequences_SQW))
        )
        unequal = op.Less(op.ReduceMin(limit_S, keepdims=0), NO_STEP)
        active = op.Or(op.Or(has_end, has_sequences), unequal)
        pad_S = op.Squeeze(to_rows(inputs[names.PAD_TOKEN_ID]), [1])
        return cls(eos_SM, sequences_SQW, pad_S, limit_S, has_sequences, active)

    def apply(
        self, op: OpBuilder, drawn: Drawn, ended_S: ir.Value, step: ir.Value, generated: tuple[ir.Value, ...]
    ) -> Stopped:
        """Pad the rows that have ended before this step, and see which end with it.

        Without anything that ends a row, the branch that is taken has no condition to compute.

        Args:
            op: Operators of the graph that the step stands in.
            drawn: The step's tokens.
            ended_S: bool, the rows that have ended.
            step: int64 [], its number, counted from the call's first.
            generated: int64 [S, T], what the rows have generated before, if anything.
        """

        def with_end(op: OpBuilder) -> list[ir.Value]:
            token_S = op.Where(ended_S, self.pad_S, drawn.token)
            logprobs = [op.Where(ended_S, 0.0, x) for x in (drawn.logprob, drawn.raw_logprob)]
            token_S1 = op.Unsqueeze(token_S, [1])
            is_end_S = any_of(op, op.Equal(token_S1, self.eos_SM), [1])
            has_all_S = op.LessOrEqual(self.limit_S, op.Add(step, 1))
            has_end_S = op.Or(is_end_S, self._completing(op, (*generated, token_S1)))
            now_S = op.Or(op.Or(ended_S, has_all_S), has_end_S)
            return [token_S, *logprobs, now_S, any_of(op, op.Not(now_S))]

        def without_end(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(x) for x in (*drawn, ended_S, True)]

        outputs = [(_I64, ["S"]), (_F32, ["S"]), (_F32, ["S"]), (_BOOL, ["S"]), (_BOOL, [])]
        *padded, ended_S, go_on = branches(op, self.active, with_end, without_end, outputs)
        return Stopped(Drawn(*padded), ended_S, go_on)

    def _completing(self, op: OpBuilder, generated: tuple[ir.Value, ...]) -> ir.Value:
        """Which rows' generated tokens end with a stop sequence: bool [S]."""

        def completing(op: OpBuilder) -> list[ir.Value]:
            tokens_SW = last_tokens(op, generated, op.Shape(self.sequences_SQW, start=2, end=3))
            complete_SQ = ending_with(op, tokens_SW, self.sequences_SQW)
            return [any_of(op, op.And(complete_SQ, op.GreaterOrEqual(last_of(op, self.sequences_SQW), 0)), [1])]

        def none(op: OpBuilder) -> list[ir.Value]:
            return [op.Expand(False, op.Shape(generated[-1], start=0, end=1))]

        (completing_S,) = branches(op, self.has_sequences, completing, none, [(_BOOL, ["S"])])
        return completing_S
