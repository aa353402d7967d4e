"""The scoring graph with every product's input and output, to see what each product loses to its precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from gptloop.graph.logits import Logits
from gptloop.graph.model import with_weights
from gptloop.graph.transformer import Transformer
from gptloop.graph.variants.score import score_with
from gptloop.graph.weights import Weights


def build_taps(config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str) -> ir.Model:
    """Author the scoring graph of one checkpoint; arguments as `score.build_scorer`.

    Returns:
        Its model, with more outputs: for each product of `products.product_names` its input `x.NAME`, [rows, in], and
        its output `y.NAME`, [rows, out], both float32, a row for each token.
    """
    builder, weights = with_weights(tensors, precision)
    return score_with(builder, Transformer(config, _Taps(builder, weights)))


class _Taps:
    """Weights whose products are outputs of the graph."""

    def __init__(self, builder: GraphBuilder, weights: Weights):
        self.dtype = weights.dtype
        self._builder, self._weights = builder, weights

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value], rows: ir.Value) -> Weights:
        raise NotImplementedError("a scoring graph has no body")

    def prepare(self, op: OpBuilder, of_call: ir.Value) -> None:
        self._weights.prepare(op, of_call)

    def vector(self, name: str) -> ir.Value:
        return self._weights.vector(name)

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        return self._weights.rows(op, name, ids)

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        return self._tapped(op, name, x, self._weights.linear(op, name, x))

    def added(self, op: OpBuilder, name: str, x: ir.Value, residual: ir.Value) -> ir.Value:
        return op.Add(residual, self.linear(op, name, x))

    def head(self, op: OpBuilder, x: ir.Value) -> Logits:
        return Logits(self._tapped(op, "lm_head", x, self._weights.head(op, x).scaled(op)))

    def _tapped(self, op: OpBuilder, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
        for letter, value in (("x", x), ("y", y)):
            self._builder.add_output(op.Cast(value, to=ir.DataType.FLOAT), f"{letter}.{name}")
        return y
