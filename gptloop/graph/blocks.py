"""Where the blocks of decode steps begin: at places that depend on nothing but the number of the step.

Of a block's own K and V, a step copies all that there are; to those of the blocks before, they are appended once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

_I64 = ir.DataType.INT64
MULTIPLE = 8  # of tokens, at which blocks begin: a call that is for as many ends with a block
OF_ONE_LENGTH = 8  # blocks, before they get longer


class Block(NamedTuple):
    """A block of steps, and those of them that a call does; int64 [] each, counted from a row's first token."""

    first: ir.Value
    start: ir.Value  # this call's first
    stop: ir.Value  # behind this call's last

    def before(self, op: OpBuilder) -> ir.Value:
        """Steps that an earlier call has done."""
        return op.Sub(self.start, self.first)


class Blocks(NamedTuple):
    """The blocks that a call's steps are in: `block_bounds` in the graph; the others int64 [] each."""

    bounds: ir.Value  # int64 [blocks + 1]
    T: ir.Value  # steps that earlier calls have done
    end: ir.Value  # steps when this call has done its own
    first: ir.Value  # the number of the first block
    number: ir.Value  # how many there are

    @classmethod
    def of(cls, op: OpBuilder, T: ir.Value, steps: ir.Value, longest: int) -> Blocks:
        """From the number of steps before the call, and of its own; of both, there are `longest` at most."""
        bounds, end = op.Constant(value_ints=block_bounds(longest)), op.Add(T, steps)

        def block_of(step: ir.Value) -> ir.Value:
            begun = op.Cast(op.LessOrEqual(bounds, op.Unsqueeze(step, [-1])), to=_I64)
            return op.Sub(op.ReduceSum(begun, [-1], keepdims=0), 1)

        first, last = block_of(T), block_of(op.Sub(end, 1))
        return cls(bounds, T, end, first, op.Add(op.Sub(last, first), 1))

    def at(self, op: OpBuilder, trip: ir.Value) -> Block:
        """The block of one trip of the outer Loop."""
        block = op.Add(self.first, trip)
        first, end = (op.Gather(self.bounds, number) for number in (block, op.Add(block, 1)))
        return Block(first, op.Max(first, self.T), op.Min(end, self.end))

    def before(self, op: OpBuilder) -> ir.Value:
        """Steps of the blocks that were complete before the call: int64 []."""
        return op.Gather(self.bounds, self.first)


def block_bounds(steps: int) -> list[int]:
    """The steps, from 0, at which blocks begin, and in the end the number of all.

    At step t, with blocks of K, a step copies what its block has so far, K / 2 on average, and a block copies what was
    before it, t / K for each of its tokens: least where K is the square root of 2 t. That is about what blocks come to
    of which eight have 8 steps, eight 16, and so on. Fewer would be copied in the first eight steps if these were two
    blocks, but so little that another block's operators cost more. They end where a row has a multiple of 8 tokens (its
    first is none of a step), as the calls of a generation in blocks of 8 do. Where they begin depends on nothing else,
    so that a row's sums are the same, to the last bit, however many tokens a call is for and in how many calls they are
    generated.
    """

    def tokens() -> Iterator[int]:
        yield 1
        of_each = (MULTIPLE * factor for factor in itertools.count(1) for _ in range(OF_ONE_LENGTH))
        yield from itertools.accumulate(of_each, initial=MULTIPLE)

    starts = (number - 1 for number in tokens())
    return [*itertools.takewhile(lambda start: start < steps, starts), steps]
