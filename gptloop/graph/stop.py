"""The end of a row: which tokens are padding from there on, and whether any row goes on."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches


class Stopped(NamedTuple):
    """One step after the stop rule."""

    drawn: Drawn
    ended_S: ir.Value  # bool
    go_on: ir.Value  # bool []


class Stop(NamedTuple):
    """A call's end of text."""

    eos_token_ids: ir.Value  # int64 [E]
    pad_token_id: ir.Value  # int64 [1]
    active: ir.Value  # bool [], whether there is an end of text at all

    def apply(self, op: OpBuilder, drawn: Drawn, ended_S: ir.Value) -> Stopped:
        """Pad the rows that have ended before this step, and see which end with it.

        Without an end of text, the branch that is taken has no condition to compute.
        """

        def with_end(op: OpBuilder) -> list[ir.Value]:
            token_S = op.Where(ended_S, self.pad_token_id, drawn.token)
            logprobs = [op.Where(ended_S, 0.0, x) for x in (drawn.logprob, drawn.raw_logprob)]
            is_end_SE = op.Cast(op.Equal(op.Unsqueeze(token_S, [1]), self.eos_token_ids), to=ir.DataType.INT32)
            now_S = op.Or(ended_S, op.Cast(op.ReduceMax(is_end_SE, [1], keepdims=0), to=ir.DataType.BOOL))
            running = op.ReduceMax(op.Cast(op.Not(now_S), to=ir.DataType.INT32), keepdims=0)
            return [token_S, *logprobs, now_S, op.Cast(running, to=ir.DataType.BOOL)]

        def without_end(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(x) for x in (*drawn, ended_S, True)]

        i64, f32, boolean = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL
        outputs = [(i64, ["S"]), (f32, ["S"]), (f32, ["S"]), (boolean, ["S"]), (boolean, [])]
        *padded, ended_S, go_on = branches(op, self.active, with_end, without_end, outputs)
        return Stopped(Drawn(*padded), ended_S, go_on)


def stop(op: OpBuilder, eos_token_ids: ir.Value, pad_token_id: ir.Value) -> Stop:
    """From the graph's inputs."""
    return Stop(eos_token_ids, pad_token_id, op.GreaterOrEqual(op.ReduceMax(eos_token_ids, keepdims=0), 0))
