"""The checkpoint's tensors in the graph, by precision: how a product, a row of an embedding and the LM head read them.

Every class here has the same methods, and `gptloop.exporter` stores the tensors that they name. Knows no layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import onnx_ir as ir
from onnxscript import OpBuilder

SCALE = ".scale"  # suffix of the tensor that an int8 tensor is multiplied by


class Weights(Protocol):
    """Tensors by their published names; they are initializers of the outer graph.

    Attributes:
        dtype: Of activations, and so of K and V. Logits are float32 in any case.
    """

    dtype: ir.DataType

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value]) -> Weights:
        """The same on other values of the same tensors, in the graph that `op` builds."""

    def vector(self, name: str) -> ir.Value:
        """A bias or layer norm."""

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        """Rows of an embedding: ids [...] -> [..., D]."""

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        """Product and bias: [rows, in] -> [rows, out]."""

    def head(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        """Product with the LM head, the token embedding unless there is one: [rows, D] -> float32 [rows, V]."""


class Float32Weights:
    """All tensors float32, products as Gemm with the bias inside."""

    dtype = ir.DataType.FLOAT

    def __init__(self, tensors: Mapping[str, ir.Value]):
        self._tensors = tensors

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value]) -> Weights:
        return Float32Weights(tensors)

    def vector(self, name: str) -> ir.Value:
        return self._tensors[name]

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        return op.Gather(self._tensors[name], ids)

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        # The checkpoint stores [in, out] (transformers' Conv1D), which is Gemm's own layout.
        return op.Gemm(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def head(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        head_VD = self._tensors.get("lm_head.weight", self._tensors["wte.weight"])
        return op.Gemm(x, head_VD, transB=1)


class HalfWeights(Float32Weights):
    """All tensors float16 or bfloat16, and what is computed from them, up to the logits.

    Statistics of a layer norm are float32 (LayerNormalization's stash_type, 1 unless given). An attention's softmax is
    left in half precision: of numbers in 0 to 1, which ONNX Runtime's CUDA kernel and torch's compute in float32 and
    round once; on the CPU, ONNX Runtime computes it in float32 altogether.
    """

    def __init__(self, tensors: Mapping[str, ir.Value], dtype: ir.DataType):
        super().__init__(tensors)
        self.dtype = dtype

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value]) -> Weights:
        return HalfWeights(tensors, self.dtype)

    def head(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return op.Cast(super().head(op, x), to=ir.DataType.FLOAT)


class Int8Weights:
    """Matrices int8 with one scale per output column (of an embedding: per row), vectors float32.

    Products are dynamic: the activations are quantized to uint8 with one scale per tensor, so a row's result depends a
    little on the rows beside it. The chain of operators is the one that ONNX Runtime fuses into a single kernel.
    """

    dtype = ir.DataType.FLOAT

    def __init__(self, op: OpBuilder, tensors: Mapping[str, ir.Value]):
        self._tensors = tensors
        name = "lm_head.weight" if "lm_head.weight" in tensors else "wte.weight"
        # Once, outside of the steps, where a runtime folds it into a constant.
        self._head_DV = op.Transpose(tensors[name], perm=[1, 0])
        self._head_scale_V = tensors[name + SCALE]

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value]) -> Weights:
        return Int8Weights(op, tensors)

    def vector(self, name: str) -> ir.Value:
        return self._tensors[name]

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        quantized = op.Cast(op.Gather(self._tensors[name], ids), to=ir.DataType.FLOAT)
        return op.Mul(quantized, op.Unsqueeze(op.Gather(self._tensors[name + SCALE], ids), [-1]))

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        weight = f"{name}.weight"
        product = self._product(op, x, self._tensors[weight], self._tensors[weight + SCALE])
        return op.Add(product, self._tensors[f"{name}.bias"])

    def head(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        return self._product(op, x, self._head_DV, self._head_scale_V)

    def _product(self, op: OpBuilder, x: ir.Value, matrix: ir.Value, scale: ir.Value) -> ir.Value:
        quantized, x_scale, x_zero = op.DynamicQuantizeLinear(x, _outputs=3)
        product = op.Cast(op.MatMulInteger(quantized, matrix, x_zero), to=ir.DataType.FLOAT)
        return op.Mul(product, op.Mul(x_scale, scale))


class Repeated:
    """The tensors a second time, as initializers of a subgraph; in a file with external data, of the same bytes.

    ONNX Runtime packs a constant for its products when it loads a graph, but finds constants of the graph itself and of
    the graph around it only (session_state.cc, PrepackConstantInitializedTensors, as of 1.32): what stands two graphs
    further out is multiplied unpacked, at 0.6 times the speed with 8 rows. The packed copies, equal in content, are
    shared.

    Args:
        tensors: The outer graph's initializers.
        scope: What the names start with, since they must differ.
    """

    def __init__(self, tensors: Mapping[str, ir.Value], scope: str):
        self.values = {
            name: ir.Value(name=f"{scope}/{name}", type=v.type, shape=v.shape, const_value=v.const_value)
            for name, v in tensors.items()
        }

    def store_in(self, graph: ir.Graph) -> None:
        """Make those that a node reads the graph's initializers."""
        for value in self.values.values():
            if value.uses():
                graph.register_initializer(value)
