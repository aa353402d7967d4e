"""Where the blocks of decode steps begin: at places that depend on nothing but the number of the step.

Of a block's own K and V, a step copies all that there are; to those of the blocks before, they are appended once.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT
FIRST_BLOCK = 4  # steps; each block has one more than the block before


class Block(NamedTuple):
    """A block of steps, and those of them that a call does; int64 [] each, counted from a row's first token."""

    first: ir.Value
    start: ir.Value  # this call's first
    stop: ir.Value  # behind this call's last
    end: ir.Value

    def before(self, op: OpBuilder) -> ir.Value:
        """Steps that an earlier call has done."""
        return op.Sub(self.start, self.first)


class Blocks(NamedTuple):
    """The blocks that a call's steps are in: `block_bounds` in the graph, int64 [] each."""

    T: ir.Value  # steps that earlier calls have done
    end: ir.Value  # steps when this call has done its own
    first: ir.Value  # the number of the first block
    number: ir.Value  # how many there are

    @classmethod
    def of(cls, op: OpBuilder, T: ir.Value, steps: ir.Value) -> Blocks:
        """From the number of steps before the call, and of its own."""
        end = op.Add(T, steps)
        first, last = (_block_of(op, step) for step in (T, op.Sub(end, 1)))
        return cls(T, end, first, op.Add(op.Sub(last, first), 1))

    def at(self, op: OpBuilder, trip: ir.Value) -> Block:
        """The block of one trip of the outer Loop."""
        block = op.Add(self.first, trip)
        first = op.Div(op.Mul(block, op.Add(block, 2 * FIRST_BLOCK - 1)), 2)
        end = op.Add(op.Add(first, block), FIRST_BLOCK)
        return Block(first, op.Max(first, self.T), op.Min(end, self.end), end)


def _block_of(op: OpBuilder, step: ir.Value) -> ir.Value:
    """The number of the block that a step is in, int64 []: the inverse of `first` in `Blocks.at`."""
    c = 2 * FIRST_BLOCK - 1
    root = op.Sqrt(op.Cast(op.Add(op.Mul(step, 8), c * c), to=_F32))  # of a block's first step, exactly an odd number
    return op.Div(op.Sub(op.Cast(op.Floor(root), to=_I64), c), 2)


def block_bounds(steps: int) -> list[int]:
    """The steps, from 0, at which blocks begin, and in the end the number of all.

    At step t, with blocks of K, a step copies what its block has so far, K / 2 on average, and a block copies what was
    before it, t / K for each of its tokens: least where K is the square root of 2 t. That is what blocks come to that
    grow by one. Where they begin depends on nothing else, so that a row's sums are the same, to the last bit, however
    many tokens a call is for and in how many calls they are generated.
    """
    starts = itertools.accumulate(itertools.count(FIRST_BLOCK), initial=0)
    return [*itertools.takewhile(lambda start: start < steps, starts), steps]
