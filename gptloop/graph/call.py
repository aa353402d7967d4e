"""What a graph knows of one generate call: its sizes and its uniform numbers, computed once before the Loop."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import threefry


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


def per_row(op: OpBuilder, call: Call, x: ir.Value) -> ir.Value:
    """Repeat a per-prompt value for the prompt's candidates: [B], [1] or [B, C] -> [S, 1] or [S, C]."""
    x = op.Reshape(x, [0, 1, -1])  # [B, 1, C]
    x_BRC = op.Expand(x, op.Concat(call.B, call.R, [1], axis=0))
    return op.Reshape(x_BRC, op.Concat(op.Mul(call.B, call.R), op.Shape(x, start=2, end=3), axis=0))


def on_host(op: OpBuilder, call: Call, x: ir.Value | int) -> ir.Value:
    """An int64 input or number, [1] or [B], kept on the CPU by an ONNX Runtime with a GPU, and so what follows.

    What is computed from shapes, inputs and constants alone is left there; so a 0 made from a shape is added.
    """
    return op.Add(x, op.Sub(call.B, call.B))


def uniforms(op: OpBuilder, seed: ir.Value, call: Call, first_candidate: ir.Value | int = 0) -> ir.Value:
    """The call's uniform numbers, one per row and step; float32 [N, S, 1].

    Keyed by the prompt's seed and counted by (candidate, step), as gptloop.runtime.threefry has it; candidates from
    `first_candidate` on, int64 [1], and steps from the one on whose token this call reads first, if it does.
    """

    def count(size_1: ir.Value, first: ir.Value | int = 0) -> threefry.Word:
        # Not Range, which a GPU's runtime computes on the GPU: one copy for each of the numbers' bitwise operators.
        ones = op.Tile(on_host(op, call, 1), size_1)
        before = 1 if isinstance(first, int) else op.Sub([1], on_host(op, call, first))
        values = op.Cast(op.Sub(op.CumSum(ones, 0), before), to=ir.DataType.INT32)
        return threefry.Word(op.Div(values, threefry.LIMB), op.Mod(values, threefry.LIMB))

    steps = call.N if call.G is None else op.Add(call.N, call.resumed(op))
    key = threefry.words_of_int64(op, op.Unsqueeze(on_host(op, call, seed), [0, 2]))  # [1, B, 1]
    step = threefry.Word(*(op.Unsqueeze(limb, [1, 2]) for limb in count(steps, call.steps_done(op))))  # [N, 1, 1]
    word, _ = threefry.threefry2x32(op, key, (count(call.R, first_candidate), step))  # [N, B, R]
    return op.Reshape(threefry.uniform(op, word), op.Concat(on_host(op, call, steps), [-1], [1], axis=0))
