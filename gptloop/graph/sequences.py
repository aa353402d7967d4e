"""Sequences of token ids in the rows' tokens: what a row ends with, and which n-grams it has had.

Sequences are a row's own, int64 [S, Q, W], those shorter than W padded with -1 on the left; of tokens, -1 is none.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

NONE = -1  # no token
_I64, _I32, _BOOL = ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL
_END = 2**31 - 1


def last_tokens(op: OpBuilder, parts: tuple[ir.Value, ...], length_1: ir.Value) -> ir.Value:
    """The last tokens of each row, `NONE` before its first: int64 [S, W].

    Args:
        op: Operators.
        parts: int64 [S, ...] each, a row's tokens one part after the other; at least one.
        length_1: int64 [1], W.
    """
    from_1 = op.Neg(length_1)
    ends = [op.Slice(part, from_1, [_END], [1]) for part in parts]  # a part that is shorter stays whole
    return op.Slice(op.Concat(_nothing(op, parts[0], length_1), *ends, axis=1), from_1, [_END], [1])


def ending_with(op: OpBuilder, tokens_SW: ir.Value, sequences_SQW: ir.Value) -> ir.Value:
    """Which rows end with which of their sequences: bool [S, Q]; with one of `NONE` alone, all do."""
    equal_SQW = op.Equal(op.Unsqueeze(tokens_SW, [1]), sequences_SQW)
    return _all(op, op.Or(equal_SQW, op.Less(sequences_SQW, 0)))


def last_of(op: OpBuilder, sequences_SQW: ir.Value) -> ir.Value:
    """The sequences' last ids, int64 [S, Q]; `NONE` for what is no sequence."""
    return op.Gather(sequences_SQW, -1, axis=2)


def without_last(op: OpBuilder, sequences_SQW: ir.Value) -> ir.Value:
    """What stands before the sequences' last ids, int64 [S, Q, W]."""
    none_SQ1 = op.Expand(NONE, op.Concat(op.Shape(sequences_SQW, start=0, end=2), [1], axis=0))
    return op.Concat(none_SQ1, op.Slice(sequences_SQW, [0], [-1], [2]), axis=2)


def completing_again(op: OpBuilder, text_SL: ir.Value, size_S1: ir.Value) -> ir.Value:
    """Which of a row's tokens would, as its next one, complete an n-gram that it has had: bool [S, L].

    Args:
        op: Operators.
        text_SL: int64, the rows' tokens.
        size_S1: int64, n; 0 for rows that may repeat any.
    """
    length = op.Squeeze(op.Shape(text_SL, start=1, end=2), [0])
    most = op.Min(op.ReduceMax(size_S1, keepdims=0), op.Add(length, 1))  # longer ones fit into no row
    next_ = op.Add(most, length)
    padded = op.Concat(_nothing(op, text_SL, op.Unsqueeze(most, [0])), text_SL, axis=1)
    back_W = op.Range(1, op.Add(most, 1), 1)  # how far before a token
    before_LW = op.Sub(op.Unsqueeze(op.Range(most, next_, 1), [1]), back_W)
    had_SLW = op.Gather(padded, before_LW, axis=1)
    now_SW = op.Gather(padded, op.Sub(next_, back_W), axis=1)
    equal_SLW = op.And(op.Equal(had_SLW, op.Unsqueeze(now_SW, [1])), op.GreaterOrEqual(had_SLW, 0))
    beyond_SW = op.GreaterOrEqual(back_W, size_S1)
    again_SL = _all(op, op.Or(equal_SLW, op.Unsqueeze(beyond_SW, [1])))
    return op.And(again_SL, op.And(op.Greater(size_S1, 0), op.GreaterOrEqual(text_SL, 0)))


def _nothing(op: OpBuilder, like_SX: ir.Value, length_1: ir.Value) -> ir.Value:
    return op.Expand(NONE, op.Concat(op.Shape(like_SX, start=0, end=1), length_1, axis=0))


def _all(op: OpBuilder, holds_XYW: ir.Value) -> ir.Value:
    return op.Cast(op.ReduceMin(op.Cast(holds_XYW, to=_I32), [2], keepdims=0), to=_BOOL)
