"""How finely int8 quantizes activations: as the runtime's products allow, which the graph tries out itself.

On x64 CPUs without VNNI, ONNX Runtime (1.32) multiplies uint8 by int8 with an instruction that adds two products in 16
bits: beyond 32,767 the sum is cut, without a word. Activations of half as many steps, and weights of up to 127, stay
below it. So where a product of large numbers comes out too small, activations have 7 bits, everywhere else 8.

Knows no weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder

_F32 = ir.DataType.FLOAT
STEPS = 127  # of a quantized value, either way from the zero point
ZERO_POINT = 128  # uint8
# The same where little lies below 0: fewer steps are left for that, and more for the rest.
STEPS_ABOVE, STEPS_BELOW = 191, 64
COARSER = 2  # what the size of a step is multiplied by, and the zero point divided, where sums of products are cut
_INPUT, _WEIGHT, _PROBED = 255, 127, 64  # the numbers whose products are summed to try it out, and how many of them
SUM = _INPUT * _WEIGHT * _PROBED


class Steps(NamedTuple):
    """Where and how far values are quantized.

    Attributes:
        zero_point: uint8 [].
        per_step_11: The part of a row's largest value that is a step, float32.
        zero_points_S1: The zero point of each row, where the number of rows is known.
    """

    zero_point: ir.Value
    per_step_11: ir.Value
    zero_points_S1: ir.Value | None = None

    def for_rows(self, op: OpBuilder, rows_S1: ir.Value) -> Steps:
        """For as many rows."""
        return self._replace(zero_points_S1=op.Expand(self.zero_point, op.Shape(rows_S1)))


class Quantization(NamedTuple):
    """What all products of a call share.

    Attributes:
        unit_1: 1, float32.
        factor_1: 1 or `COARSER`, float32: of a step's size, against that of 8 bits.
        even: Of values on both sides of 0.
        above: Of values that lie above 0, but for little.
    """

    unit_1: ir.Value
    factor_1: ir.Value
    even: Steps
    above: Steps

    @classmethod
    def of_runtime(cls, op: OpBuilder, of_call: ir.Value) -> Quantization:
        """Seen on numbers made at run time, from any value of which a call brings one row or more.

        For what is constant a runtime may compute when it loads the file, with another implementation.
        """
        size_1 = op.Shape(of_call, start=0, end=1)
        unit_1 = op.Cast(op.Div(size_1, size_1), to=_F32)
        large = op.Cast(op.Mul(unit_1, float(_INPUT)), to=ir.DataType.UINT8)
        weights = np.full((_PROBED, _PROBED), _WEIGHT, np.int8)
        sums = op.MatMulInteger(op.Expand(large, [1, _PROBED]), op.Constant(value=ir.tensor(weights)))
        right = op.Equal(op.ReduceMin(sums, keepdims=0), SUM)
        factor_1 = op.Where(right, unit_1, op.Mul(unit_1, float(COARSER)))

        def steps(zero_point: int, number: int) -> Steps:
            divided = op.Cast(op.Squeeze(op.Div(float(zero_point), factor_1)), to=ir.DataType.UINT8)
            return Steps(divided, op.Unsqueeze(op.Mul(factor_1, 1 / number), [0]))

        return cls(unit_1, factor_1, steps(ZERO_POINT, STEPS), steps(STEPS_BELOW, STEPS_ABOVE))

    def for_rows(self, op: OpBuilder, rows_S1: ir.Value) -> Quantization:
        """The same with the zero points of each of [S, 1]."""
        return self._replace(even=self.even.for_rows(op, rows_S1), above=self.above.for_rows(op, rows_S1))
