"""Logits, and by what each row of them is still to be multiplied."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder


class Logits(NamedTuple):
    """A row of logits for each row of a pass.

    int8 leaves a row's scale to those who read the logits: what is asked of the whole vocabulary in a step, such as its
    largest, does not depend on it, and to multiply all would be another pass over [S, V].

    Attributes:
        unscaled: float32 [S, V].
        scale: float32 [S, 1], above 0; None where it is 1.
    """

    unscaled: ir.Value
    scale: ir.Value | None = None

    def scaled(self, op: OpBuilder) -> ir.Value:
        """The logits themselves, float32 [S, V]."""
        return self.unscaled if self.scale is None else op.Mul(self.unscaled, self.scale)

    def map(self, function: Callable[[ir.Value], ir.Value]) -> Logits:
        """The same after a change of the rows."""
        return Logits(function(self.unscaled), None if self.scale is None else function(self.scale))
