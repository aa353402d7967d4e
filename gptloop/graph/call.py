"""What a graph knows of one generate call: its sizes and its uniform numbers, computed once before the Loop."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import threefry

_INT32 = ir.DataType.INT32

NO_STEP = 2**24  # later than any; OpenVINO narrows int64 to 32 bits, and to float32 on the way


class Call(NamedTuple):
    """Sizes of one generate call, int64 [1] each.

    Attributes:
        B: Prompts.
        R: Candidates of each.
        P: Tokens of each.
        N: New tokens of each row.
        L: Tokens of each prompt whose K and V an earlier call has computed; None where none may have.
        G: Tokens of each row that earlier calls have generated; None as L.
    """

    B: ir.Value
    R: ir.Value
    P: ir.Value
    N: ir.Value
    L: ir.Value | None = None
    G: ir.Value | None = None

    def resumed(self, op: OpBuilder) -> ir.Value | int:
        """1 where an earlier call has generated tokens, whose last is then this call's to read; else 0. int64 [1]."""
        return 0 if self.G is None else op.Min(self.G, 1)

    def steps_done(self, op: OpBuilder) -> ir.Value | int:
        """Tokens of each row whose K and V an earlier call has computed; the step that this call begins with."""
        return 0 if self.G is None else op.Sub(self.G, self.resumed(op))

    def steps(self, op: OpBuilder) -> ir.Value:
        """The call's own decode steps: one for each new token but the first of all, which the prefill gives."""
        return op.Sub(op.Add(self.N, self.resumed(op)), 1)


def per_row(op: OpBuilder, call: Call, x: ir.Value) -> ir.Value:
    """Repeat a per-prompt value for the prompt's candidates: [B] -> [S, 1], [B, C] -> [S, C], [B, Q, W] -> [S, Q, W].

    B may be 1 there, of what holds for all prompts.
    """
    assert x.shape is not None
    rest = op.Shape(x, start=1) if len(x.shape) > 1 else op.Constant(value_ints=[1])
    x_B1C = op.Reshape(x, [0, 1, -1])
    x_BRC = op.Expand(x_B1C, op.Concat(call.B, call.R, [1], axis=0))
    return op.Reshape(x_BRC, op.Concat(op.Mul(call.B, call.R), rest, axis=0))


def step_limit(op: OpBuilder, call: Call, candidates: ir.Value, new_tokens: ir.Value) -> ir.Value:
    """The step from which on a row gets padding: int64 [S], counted from the call's first, 0 of surplus candidates.

    A row that asks for as many new tokens as any has no such step before the call ends: `NO_STEP`.

    Args:
        op: The outer graph's operators.
        call: The call's sizes.
        candidates: int64 [B] or [1], the prompts' own numbers of them.
        new_tokens: int64 [B] or [1], the prompts' own numbers of them.
    """
    wanted_BR = op.Less(op.Range(0, op.Squeeze(call.R), 1), op.Unsqueeze(candidates, [1]))
    steps = op.Where(op.Less(new_tokens, call.N), op.Add(new_tokens, call.resumed(op)), NO_STEP)
    limit_BR = op.Where(wanted_BR, op.Unsqueeze(steps, [1]), 0)
    return op.Reshape(op.Expand(limit_BR, op.Concat(call.B, call.R, axis=0)), [-1])


def on_host(op: OpBuilder, B: ir.Value, x: ir.Value | int) -> ir.Value:
    """An int64 input or number, [1] or [B], kept on the CPU by an ONNX Runtime with a GPU, and so what follows.

    What is computed from shapes, inputs and constants alone is left there; so a 0 made from a shape is added.
    """
    return op.Add(x, op.Sub(B, B))


def uniforms(op: OpBuilder, seed: ir.Value, call: Call, first_candidate: ir.Value | int = 0) -> ir.Value:
    """The call's uniform numbers, one per row and step; float32 [N, S, 1].

    Keyed by the prompt's seed and counted by (candidate, step), as gptloop.runtime.threefry has it; candidates from
    `first_candidate` on, int64 [B] or [1], and steps from the one on whose token this call reads first, if it does.
    """

    def count(size_1: ir.Value, first: ir.Value | int = 0) -> threefry.Word:
        """From the first on: [size], or of several firsts [B, size]."""
        # Not Range, which a runtime with a GPU computes there: one copy for each of the numbers' bitwise operators.
        # Where the size is computed, Tile is, too; a bitwise operator that changes nothing brings the count back.
        ones = op.Tile(on_host(op, call.B, 1), size_1)
        counted = op.Cast(op.CumSum(ones, 0, exclusive=1), to=_INT32)
        values = op.BitwiseXor(counted, op.Cast(on_host(op, call.B, 0), to=_INT32))
        if not isinstance(first, int):
            values = op.Add(values, op.Cast(op.Unsqueeze(on_host(op, call.B, first), [1]), to=_INT32))
        return threefry.Word(op.Div(values, threefry.LIMB), op.Mod(values, threefry.LIMB))

    steps = call.N if call.G is None else op.Add(call.N, call.resumed(op))
    key = threefry.words_of_int64(op, op.Unsqueeze(on_host(op, call.B, seed), [0, 2]))  # [1, B, 1]
    step = threefry.Word(*(op.Reshape(limb, [-1, 1, 1]) for limb in count(steps, call.steps_done(op))))  # [N, 1, 1]
    word, _ = threefry.threefry2x32(op, key, (count(call.R, first_candidate), step))  # [N, B, R]
    return op.Reshape(threefry.uniform(op, word), op.Concat(on_host(op, call.B, steps), [-1], [1], axis=0))
