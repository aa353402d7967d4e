"""Where the running sum of a row's probabilities passes a fraction of their total, exactly enough for any vocabulary.

A float32 running sum over 50,257 probabilities is off by 2^-16, which leaves thousands of ids without any uniform
number (multiples of 2^-24) that draws them. Sums in double would do; but OpenVINO computes them in float32. So a
probability is taken apart into a whole number of `UNIT`s and a part of one. Whole numbers sum up to `UNIT`, which
float32 holds exactly in any order; parts, rounded down to multiples of 1 / `PARTS`, sum up in integers. The uniform
number's share of the total is taken apart likewise: u * total is u * UNIT, exact, and u times what the total is off
from `UNIT`, which is little, as softmax sums to 1. So what a sum is off by is, of the total, less than 2^-41 for each
entry, and some 2^-32 for the last steps in float32.

Knows nothing of logits, settings or tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.operators import END

UNIT = 2.0**22  # so that a whole number of units less u * UNIT, a multiple of 1/4, has no more than 24 bits
PARTS = 2.0**18  # of a unit
FEW = 4096  # entries whose parts sum up to less than 2^31: OpenVINO narrows int64 to int32
BLOCK = 256  # FEW blocks are 2^20 entries

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT


class Sums(NamedTuple):
    """Numbers of units and parts of one, float32 each: their sum is meant."""

    whole: ir.Value
    part: ir.Value


def inverse_cdf(op: OpBuilder, probs_SC: ir.Value, fraction_S1: ir.Value) -> ir.Value:
    """The first entry at which the running sum exceeds a fraction of the total.

    Args:
        op: Operators.
        probs_SC: float32, each row's sum about 1, as softmax has it. More than `FEW` are too many for OpenVINO.
        fraction_S1: float32, 0 to 1 - 2^-24, so that the last entry of all that are not 0 exceeds it.

    Returns:
        The entry's index, int64 [S, 1]; never one whose probability is 0.
    """
    sums = _running(op, _taken_apart(op, probs_SC))
    return _count(op, _passed(op, sums, _target(op, sums, fraction_S1)))


def inverse_cdf_in_blocks(op: OpBuilder, probs_SV: ir.Value, fraction_S1: ir.Value) -> ir.Value:
    """The same where entries are many: sums of whole blocks first, then the running sum within one of them."""
    size_1 = op.Shape(probs_SV, start=1, end=2)
    missing_1 = op.Mod(op.Sub([0], size_1), [BLOCK])
    padded = op.Pad(probs_SV, op.Concat([0, 0, 0], missing_1, axis=0))
    entries = _taken_apart(op, op.Reshape(padded, [0, -1, BLOCK]))  # [S, blocks, BLOCK]
    whole_SB, part_SB = (op.ReduceSum(x, [2], keepdims=0) for x in entries)
    more_SB = op.Floor(part_SB)
    blocks = _running(op, Sums(op.Add(whole_SB, more_SB), op.Sub(part_SB, more_SB)))
    target = _target(op, blocks, fraction_S1)
    passed_SB = _passed(op, blocks, target)
    block_S1 = _count(op, passed_SB)

    before = Sums(*(op.ReduceMax(op.Where(passed_SB, x_SB, 0.0), [1], keepdims=1) for x_SB in blocks))
    within = Sums(*(op.CumSum(op.GatherND(x, block_S1, batch_dims=1), 1) for x in entries))  # [S, BLOCK]
    target = Sums(op.Sub(target.whole, before.whole), op.Sub(target.part, before.part))
    # Parts are rounded: within the block they may fall short of its sum. Then the last positive entry is the one.
    total = _last(op, within)
    below = op.Or(op.Less(within.whole, total.whole), op.Less(within.part, total.part))
    index_S1 = _count(op, op.And(_passed(op, within, target), below))
    return op.Add(op.Mul(block_S1, [BLOCK]), index_S1)


def _taken_apart(op: OpBuilder, probs: ir.Value) -> Sums:
    units = op.Mul(probs, UNIT)
    whole = op.Floor(units)
    return Sums(whole, op.Sub(units, whole))


def _running(op: OpBuilder, entries_SC: Sums) -> Sums:
    parts_SC = op.CumSum(op.Cast(op.Mul(entries_SC.part, PARTS), to=_I64), 1)
    return Sums(op.CumSum(entries_SC.whole, 1), op.Mul(op.Cast(parts_SC, to=_F32), 1 / PARTS))


def _last(op: OpBuilder, sums_SC: Sums) -> Sums:
    return Sums(*(op.Slice(x_SC, [-1], [END], [1]) for x_SC in sums_SC))


def _target(op: OpBuilder, sums_SC: Sums, fraction_S1: ir.Value) -> Sums:
    """A fraction of the total."""
    total = _last(op, sums_SC)
    excess_S1 = op.Add(op.Sub(total.whole, UNIT), total.part)
    return Sums(op.Mul(fraction_S1, UNIT), op.Mul(fraction_S1, excess_S1))


def _passed(op: OpBuilder, sums_SC: Sums, target_S1: Sums) -> ir.Value:
    """Which running sums do not exceed the target. Where it is close, the differences are small, and so exact."""
    return op.LessOrEqual(op.Sub(sums_SC.whole, target_S1.whole), op.Sub(target_S1.part, sums_SC.part))


def _count(op: OpBuilder, passed_SC: ir.Value) -> ir.Value:
    return op.ReduceSum(op.Cast(passed_SC, to=_I64), [1], keepdims=1)
