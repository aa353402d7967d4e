"""A block in ONNX Runtime's contrib operators: fewer, bigger kernels for a GPU.

A residual sum, the bias before it and the layer norm after it are one SkipLayerNormalization; the bias before a tanh
GELU is FastGelu's. The numbers are the same, up to the order of the sums. Other activations keep their operators.

Source: ONNX Runtime's ContribOperators.md, domain com.microsoft, version 1.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.logits import Logits
from gptloop.graph.scope import scope
from gptloop.graph.transformer import ACTIVATIONS, Attend, Transformer

DOMAIN = "com.microsoft"
TANH_GELUS = {ACTIVATIONS[name] for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")}


class Unsummed(NamedTuple):
    """What a block adds up last, left to the layer norm that comes next: [rows, D], [rows, D] and [D]."""

    product: ir.Value
    residual: ir.Value
    bias: ir.Value


class FusedTransformer(Transformer):
    """The layers, summed where they are normalized. A block's result is for the next block or the LM head only."""

    @classmethod
    def of(cls, transformer: Transformer) -> FusedTransformer:
        """The same layers."""
        fused = cls.__new__(cls)
        fused.__dict__.update(transformer.__dict__)
        return fused

    def block(  # type: ignore[override]
        self, op: OpBuilder, layer: int, x: ir.Value | Unsummed, attend: Attend, residual: ir.Value | None = None
    ) -> Unsummed:
        """One transformer block; arguments as `Transformer.block`, which has a residual in the prefill only."""
        assert residual is None
        h = f"h.{layer}"
        with scope(op, h):
            normed, x_sum = self._sum_and_norm(op, f"{h}.ln_1", x)
            context = attend(layer, self._weights.linear(op, f"{h}.attn.c_attn", normed))
            normed, x_sum = self._sum_and_norm(op, f"{h}.ln_2", self._unsummed(op, f"{h}.attn.c_proj", context, x_sum))
            inner = self._activated(op, f"{h}.mlp.c_fc", normed)
            return self._unsummed(op, f"{h}.mlp.c_proj", inner, x_sum)

    def lm_head(self, op: OpBuilder, x: ir.Value | Unsummed) -> Logits:
        """Logits [rows, V]."""
        return self._weights.head(op, self._sum_and_norm(op, "ln_f", x)[0])

    def _activated(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        if self._activation not in TANH_GELUS:
            return self._activation(op, self._weights.linear(op, name, x))
        product = op.MatMul(x, self._weights.vector(f"{name}.weight"))
        return self._typed(op.FastGelu(product, self._weights.vector(f"{name}.bias"), _domain=DOMAIN))

    def _unsummed(self, op: OpBuilder, name: str, x: ir.Value, residual: ir.Value) -> Unsummed:
        product = op.MatMul(x, self._weights.vector(f"{name}.weight"))
        return Unsummed(product, residual, self._weights.vector(f"{name}.bias"))

    def _sum_and_norm(self, op: OpBuilder, name: str, x: ir.Value | Unsummed) -> tuple[ir.Value, ir.Value]:
        if not isinstance(x, Unsummed):
            return self._layer_norm(op, name, x), x
        weight, bias = self._weights.vector(f"{name}.weight"), self._weights.vector(f"{name}.bias")
        normed, _, _, total = op.SkipLayerNormalization(
            x.product, x.residual, weight, bias, x.bias, epsilon=self._epsilon, _domain=DOMAIN, _outputs=4
        )
        return self._typed(normed), self._typed(total)

    def _typed(self, x: ir.Value) -> ir.Value:
        """Shape inference of the standard operators knows nothing of these."""
        x.dtype = self.dtype
        return x
