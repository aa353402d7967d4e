"""What ONNX's operators leave to whoever uses them: none reduces bool, and a Slice to the end names a last place."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import OpBuilder

END = 2**31 - 1  # of a Slice to the end


def any_of(op: OpBuilder, holds: ir.Value, *axes: Sequence[int]) -> ir.Value:
    """Whether one holds, bool, along these axes or of all."""
    return op.Cast(op.ReduceMax(op.Cast(holds, to=ir.DataType.INT32), *axes, keepdims=0), to=ir.DataType.BOOL)


def all_of(op: OpBuilder, holds: ir.Value, *axes: Sequence[int]) -> ir.Value:
    """Whether all hold, bool, along these axes or at all."""
    return op.Cast(op.ReduceMin(op.Cast(holds, to=ir.DataType.INT32), *axes, keepdims=0), to=ir.DataType.BOOL)
