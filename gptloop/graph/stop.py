"""The end of a row: which tokens are padding from there on, and whether any row goes on.

A row ends with its end of text, or with the last token that its prompt asked for where
the call goes on for another one.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.call import NO_STEP
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches


class Stopped(NamedTuple):
    """One step after the stop rule."""

    drawn: Drawn
    ended_S: ir.Value  # bool
    go_on: ir.Value  # bool []


class Stop(NamedTuple):
    """Where the rows of a call end."""

    eos_SE: ir.Value  # int64; -1 alone in a row without an end of text
    pad_S: ir.Value  # int64
    limit_S: ir.Value  # int64, the step from which on a row gets padding, as `step_limit` has it
    active: ir.Value  # bool [], whether a row may end before the call does

    @classmethod
    def of(cls, op: OpBuilder, eos_SE: ir.Value, pad_S1: ir.Value, limit_S: ir.Value) -> Stop:
        """From what the prompts ask for; where a row's ends of text are fewer than E, -1 follows them."""
        last_S1 = op.ReduceMax(eos_SE, [1], keepdims=1)
        ends = op.GreaterOrEqual(op.ReduceMax(last_S1, keepdims=0), 0)
        unequal = op.Less(op.ReduceMin(limit_S, keepdims=0), NO_STEP)
        # One of the row's own stands in for what follows them, so that it forbids no token.
        eos_SE = op.Where(op.Less(eos_SE, 0), last_S1, eos_SE)
        return cls(eos_SE, op.Squeeze(pad_S1, [1]), limit_S, op.Or(ends, unequal))

    def apply(self, op: OpBuilder, drawn: Drawn, ended_S: ir.Value, step: ir.Value) -> Stopped:
        """Pad the rows that have ended before this step (int64 [], from 0), and see which end with it.

        Where all end with the call, the branch that is taken has no condition to compute.
        """

        def with_end(op: OpBuilder) -> list[ir.Value]:
            token_S = op.Where(ended_S, self.pad_S, drawn.token)
            logprobs = [op.Where(ended_S, 0.0, x) for x in (drawn.logprob, drawn.raw_logprob)]
            is_end_SE = op.Cast(op.Equal(op.Unsqueeze(token_S, [1]), self.eos_SE), to=ir.DataType.INT32)
            has_all_S = op.LessOrEqual(self.limit_S, op.Add(step, 1))
            is_end_S = op.Cast(op.ReduceMax(is_end_SE, [1], keepdims=0), to=ir.DataType.BOOL)
            now_S = op.Or(op.Or(ended_S, has_all_S), is_end_S)
            running = op.ReduceMax(op.Cast(op.Not(now_S), to=ir.DataType.INT32), keepdims=0)
            return [token_S, *logprobs, now_S, op.Cast(running, to=ir.DataType.BOOL)]

        def without_end(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(x) for x in (*drawn, ended_S, True)]

        i64, f32, boolean = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL
        outputs = [(i64, ["S"]), (f32, ["S"]), (f32, ["S"]), (boolean, ["S"]), (boolean, [])]
        *padded, ended_S, go_on = branches(op, self.active, with_end, without_end, outputs)
        return Stopped(Drawn(*padded), ended_S, go_on)
