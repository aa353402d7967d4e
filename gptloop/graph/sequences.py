"""Sequences of token ids in the rows' tokens: what a row ends with, and which n-grams it has had.

Sequences are a row's own, int64 [S, Q, W], those shorter than W padded with -1 on the left; of tokens, -1 is none.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.operators import END, all_of

NONE = -1  # no token
_I64 = ir.DataType.INT64


def last_tokens(op: OpBuilder, parts: tuple[ir.Value, ...], length_1: ir.Value) -> ir.Value:
    """The last tokens of each row, `NONE` before its first: int64 [S, W].

    Args:
        op: Operators.
        parts: int64 [S, ...] each, a row's tokens one part after the other; at least one.
        length_1: int64 [1], W.
    """
    from_1 = op.Neg(length_1)
    ends = [op.Slice(part, from_1, [END], [1]) for part in parts]  # a part that is shorter stays whole
    return op.Slice(op.Concat(_nothing(op, parts[0], length_1), *ends, axis=1), from_1, [END], [1])


def ending_with(op: OpBuilder, tokens_SW: ir.Value, sequences_SQW: ir.Value) -> ir.Value:
    """Which rows end with which of their sequences: bool [S, Q]; with one of `NONE` alone, all do."""
    equal_SQW = op.Equal(op.Unsqueeze(tokens_SW, [1]), sequences_SQW)
    return all_of(op, op.Or(equal_SQW, op.Less(sequences_SQW, 0)), [2])


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
    length_1 = op.Shape(text_SL, start=1, end=2)
    most_1 = op.Min(op.ReduceMax(size_S1, keepdims=0), op.Add(length_1, 1))  # longer ones fit into no row
    padded = op.Concat(_nothing(op, text_SL, most_1), text_SL, axis=1)
    had_SLW = _windows(op, padded, length_1, most_1)  # the tokens before each token
    now_SW = op.Slice(padded, length_1, [END], [1])
    equal_SLW = op.And(op.Equal(had_SLW, op.Unsqueeze(now_SW, [1])), op.GreaterOrEqual(had_SLW, 0))
    back_W = op.Range(op.Squeeze(most_1, [0]), 0, -1)  # how far before the token
    beyond_SW = op.GreaterOrEqual(back_W, size_S1)
    again_SL = all_of(op, op.Or(equal_SLW, op.Unsqueeze(beyond_SW, [1])), [2])
    return op.And(again_SL, op.And(op.Greater(size_S1, 0), op.GreaterOrEqual(text_SL, 0)))


def _windows(op: OpBuilder, tokens: ir.Value, count_1: ir.Value, size_1: ir.Value) -> ir.Value:
    """So many of each row's windows of a size, one starting at each token: int64 [S, L, W]."""
    first_L, offset_W = (op.Range(0, op.Squeeze(length_1, [0]), 1) for length_1 in (count_1, size_1))
    shape = op.Concat(op.Shape(tokens, start=0, end=1), count_1, size_1, axis=0)
    places_SLW = op.Expand(op.Add(op.Unsqueeze(first_L, [1]), offset_W), shape)
    # By row, since OpenVINO's passes fail at a Gather whose indices follow from a length that is fixed.
    found = op.GatherElements(tokens, op.Flatten(places_SLW, axis=1), axis=1)
    return op.Reshape(found, shape, allowzero=1)


def _nothing(op: OpBuilder, like_SX: ir.Value, length_1: ir.Value) -> ir.Value:
    return op.Expand(NONE, op.Concat(op.Shape(like_SX, start=0, end=1), length_1, axis=0))
