"""GPT-2's layers on rows: embedding, layer norm, products with bias, the block, the LM head.

Activations are 2-D, [rows, n_embd], so that a product with a weight is one plain matrix product. A block does not know
how its rows attend to each other: `attend` is handed in (attention.py, decode.py); nor in which precision the weights
are (weights.py).

Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019; weights are named as published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.logits import Logits
from gptloop.graph.scope import scope
from gptloop.graph.weights import Weights

ACTIVATIONS: dict[str, Callable[[OpBuilder, ir.Value], ir.Value]] = {
    "gelu_new": lambda op, x: op.Gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda op, x: op.Gelu(x, approximate="tanh"),
    "gelu_fast": lambda op, x: op.Gelu(x, approximate="tanh"),
    "gelu": lambda op, x: op.Gelu(x),
    "relu": lambda op, x: op.Relu(x),
    "silu": lambda op, x: op.Mul(x, op.Sigmoid(x)),
    "swish": lambda op, x: op.Mul(x, op.Sigmoid(x)),
    "tanh": lambda op, x: op.Tanh(x),
}

Attend = Callable[[int, ir.Value], ir.Value]
"""How the rows of a layer, by number, attend to each other: qkv [rows, 3D] -> [rows, D], or of the last rows only."""


class Transformer:
    """The layers of one checkpoint, as functions on graph values.

    Args:
        config: A `transformers.GPT2Config` whose activation function is one of `gptloop.names.ACTIVATIONS`.
        weights: The checkpoint's tensors in the graph.
    """

    def __init__(self, config: Any, weights: Weights):
        self.n_layer: int = config.n_layer
        self.n_head: int = config.n_head
        self.n_embd: int = config.n_embd
        self.head_dim: int = config.n_embd // config.n_head
        self.n_positions: int = config.n_positions
        self.dtype = weights.dtype
        self._config = config
        self._weights = weights
        self._activation = ACTIVATIONS[config.activation_function]
        self._epsilon: float = config.layer_norm_epsilon

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value], rows: ir.Value) -> Transformer:
        """The same layers on other values of the same tensors, in the graph that `op` builds, for rows [S, ...]."""
        return Transformer(self._config, self._weights.reading(op, tensors, rows))

    def prepare(self, op: OpBuilder, of_call: ir.Value) -> None:
        """Make what the layers' products share, in the graph that `op` builds; from any value that a call brings."""
        self._weights.prepare(op, of_call)

    def embed(self, op: OpBuilder, ids: ir.Value, positions: ir.Value) -> ir.Value:
        """Token plus position embedding; ids and positions broadcast after embedding."""
        weights = self._weights
        return op.Add(weights.rows(op, "wte.weight", ids), weights.rows(op, "wpe.weight", positions))

    def block(
        self, op: OpBuilder, layer: int, x: ir.Value, attend: Attend, residual: ir.Value | None = None
    ) -> ir.Value:
        """One transformer block.

        Args:
            op: Operators of the graph being built.
            layer: Its number, from 0.
            x: [rows, D].
            attend: How the rows attend to each other; may give fewer rows, rows'.
            residual: What the attention output is added to where rows' is not rows; x unless given.
        """
        h = f"h.{layer}"
        with scope(op, h):
            qkv = self._weights.linear(op, f"{h}.attn.c_attn", self._layer_norm(op, f"{h}.ln_1", x))
            x = self._weights.added(op, f"{h}.attn.c_proj", attend(layer, qkv), x if residual is None else residual)
            inner = self._activation(
                op, self._weights.linear(op, f"{h}.mlp.c_fc", self._layer_norm(op, f"{h}.ln_2", x))
            )
            return self._weights.added(op, f"{h}.mlp.c_proj", inner, x)

    def logits(self, op: OpBuilder, x: ir.Value, attend: Attend) -> Logits:
        """All blocks and the LM head: embedded tokens [rows, D] -> logits [rows, V]."""
        for layer in range(self.n_layer):
            x = self.block(op, layer, x, attend)
        return self.lm_head(op, x)

    def lm_head(self, op: OpBuilder, x: ir.Value) -> Logits:
        """Logits [rows, V]."""
        return self._weights.head(op, self._layer_norm(op, "ln_f", x))

    def _layer_norm(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        weight, bias = self._weights.vector(f"{name}.weight"), self._weights.vector(f"{name}.bias")
        return op.LayerNormalization(x, weight, bias, axis=-1, epsilon=self._epsilon)
