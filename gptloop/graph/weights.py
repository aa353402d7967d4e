"""The checkpoint's tensors in the graph, by precision: how a product, a row of an embedding and the LM head read them.

Every class here has the same methods, and `gptloop.exporter` stores the tensors that they name. Knows no layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.logits import Logits
from gptloop.graph.quantization import Quantization

SCALE = ".scale"  # suffix of the tensor that an int8 tensor is multiplied by
INPUT_SCALE = ".input_scale"  # suffix of the constant scale of a product's input, where its range is known
SMALLEST = 1e-30  # a row's scale is more by so much, so that a row of zeros has one
# Suffix of what it is more by where a product's input does not go far below 0, so that its negative values fit.
INPUT_LEAST = ".input_scale_least"
INPUT_FACTORS = ".input_factors"  # suffix of what a product's input is multiplied by, where its channels are too uneven
LEFT, RIGHT = "rotation.left", "rotation.right"  # what turns the rows in front of an int8 head that is the embedding
CHANNELS = "ln_f.channels"  # and the layer norm's weight and bias, which belong to the rows as they were


class Weights(Protocol):
    """Tensors by their published names; they are initializers of the outer graph.

    Attributes:
        dtype: Of activations, and so of K and V. Logits are float32 in any case.
    """

    dtype: ir.DataType

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value], rows: ir.Value) -> Weights:
        """The same on other values of the same tensors, in the graph that `op` builds, for products of as many rows."""

    def prepare(self, op: OpBuilder, of_call: ir.Value) -> None:
        """Make what is made once for a call, before the branches that read it; from any value that a call brings."""

    def vector(self, name: str) -> ir.Value:
        """A bias or layer norm."""

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        """Rows of an embedding: ids [...] -> [..., D]."""

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        """Product and bias: [rows, in] -> [rows, out]."""

    def added(self, op: OpBuilder, name: str, x: ir.Value, residual: ir.Value) -> ir.Value:
        """The same, added to [rows, out]."""

    def head(self, op: OpBuilder, x: ir.Value) -> Logits:
        """Product with the LM head, the token embedding unless there is one: [rows, D] -> [rows, V]."""


class Float32Weights:
    """All tensors float32, products as Gemm with the bias inside."""

    dtype = ir.DataType.FLOAT

    def __init__(self, tensors: Mapping[str, ir.Value]):
        self._tensors = tensors

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value], rows: ir.Value) -> Weights:
        return Float32Weights(tensors)

    def prepare(self, op: OpBuilder, of_call: ir.Value) -> None:
        pass

    def vector(self, name: str) -> ir.Value:
        return self._tensors[name]

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        return op.Gather(self._tensors[name], ids)

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        # The checkpoint stores [in, out] (transformers' Conv1D), which is Gemm's own layout.
        return op.Gemm(x, self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def added(self, op: OpBuilder, name: str, x: ir.Value, residual: ir.Value) -> ir.Value:
        return op.Add(residual, self.linear(op, name, x))

    def head(self, op: OpBuilder, x: ir.Value) -> Logits:
        head_VD = self._tensors.get("lm_head.weight", self._tensors["wte.weight"])
        return Logits(op.Gemm(x, head_VD, transB=1))


class HalfWeights(Float32Weights):
    """All tensors float16 or bfloat16, and what is computed from them, up to the logits.

    Statistics of a layer norm are float32 (LayerNormalization's stash_type, 1 unless given). An attention's softmax is
    left in half precision: of numbers in 0 to 1, which ONNX Runtime's CUDA kernel and torch's compute in float32 and
    round once; on the CPU, ONNX Runtime computes it in float32 altogether.
    """

    def __init__(self, tensors: Mapping[str, ir.Value], dtype: ir.DataType):
        super().__init__(tensors)
        self.dtype = dtype

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value], rows: ir.Value) -> Weights:
        return HalfWeights(tensors, self.dtype)

    def head(self, op: OpBuilder, x: ir.Value) -> Logits:
        return super().head(op, x).map(lambda logits: op.Cast(logits, to=ir.DataType.FLOAT))


class Int8Weights:
    """Matrices int8 with one scale per output column (of an embedding: per row), vectors float32.

    The inputs of products are quantized to uint8 around a zero point (quantization.py), so that no row's result depends
    on another's: behind a layer norm by a constant scale, since gptloop.exporter.folding has made their range known; in
    front of the residual stream by one scale per row. ONNX Runtime fuses the chain MatMulInteger, Cast, Mul, Add into a
    single kernel (MatMulIntegerToFloat), but only where the Mul's factor is itself a Mul that is no constant: one of
    the rows' scales and the columns', or, of rows that have none, one by 1, which a runtime cannot know.

    Args:
        op: Operators of the outer graph.
        tensors: By name.
    """

    dtype = ir.DataType.FLOAT

    def __init__(self, op: OpBuilder, tensors: Mapping[str, ir.Value]):
        self._tensors = tensors
        name = "lm_head.weight" if "lm_head.weight" in tensors else "wte.weight"
        # Once, outside of the steps, where a runtime folds it into a constant.
        self._head_DV = op.Transpose(tensors[name], perm=[1, 0])
        self._head_scale_V = tensors[name + SCALE]
        self._quantization: Quantization | None = None
        self._steps: dict[str, ir.Value] = {}  # sizes of steps that the exporter knows, by the tensors' names

    def reading(self, op: OpBuilder, tensors: Mapping[str, ir.Value], rows: ir.Value) -> Weights:
        step = Int8Weights(op, tensors)
        step._quantization = self._prepared(op, rows).for_rows(op, op.Unsqueeze(rows, [1]))
        step._steps = self._steps
        return step

    def prepare(self, op: OpBuilder, of_call: ir.Value) -> None:
        self._prepared(op, of_call)

    def vector(self, name: str) -> ir.Value:
        return self._tensors[name]

    def rows(self, op: OpBuilder, name: str, ids: ir.Value) -> ir.Value:
        quantized = op.Cast(op.Gather(self._tensors[name], ids), to=ir.DataType.FLOAT)
        return op.Mul(quantized, op.Unsqueeze(op.Gather(self._tensors[name + SCALE], ids), [-1]))

    def linear(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        bias = self._tensors[f"{name}.bias"]
        if name + INPUT_SCALE not in self._tensors:
            return op.Sum(self._scaled_by_row(op, name, x), bias)
        weight = f"{name}.weight"
        return op.Add(self._by_constant(op, name, x, self._tensors[weight], self._tensors[weight + SCALE]), bias)

    def added(self, op: OpBuilder, name: str, x: ir.Value, residual: ir.Value) -> ir.Value:
        return op.Sum(residual, self._scaled_by_row(op, name, x), self._tensors[f"{name}.bias"])

    def head(self, op: OpBuilder, x: ir.Value) -> Logits:
        if "lm_head" + INPUT_SCALE in self._tensors:
            product = self._by_constant(op, "lm_head", x, self._head_DV, self._head_scale_V)
            return Logits(op.Add(product, self._tensors["lm_head.bias"]))
        quantized, zero_point, scale_S1 = self._by_row(op, "lm_head", self._in_channels(op, x), self._head_DV)
        # The kernel would first multiply V numbers of the columns by one of the rows, in one thread and one by one.
        unit_1 = self._prepared(op, x).unit_1
        product = _product(op, quantized, zero_point, self._head_DV, op.Mul(unit_1, unit_1))
        return Logits(op.Mul(product, self._head_scale_V), scale_S1)

    def _in_channels(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        """Times the layer norm's weight, plus its bias, which stand between two rotations: [rows, D] to [rows, D]."""
        left, right = self._tensors[LEFT], self._tensors[RIGHT]
        assert left.shape is not None  # initializers'
        assert right.shape is not None
        x = op.Reshape(x, [-1, left.shape[0], right.shape[0]])
        x = op.MatMul(left, op.MatMul(x, right))
        x = op.Add(op.Mul(x, self._tensors[f"{CHANNELS}.weight"]), self._tensors[f"{CHANNELS}.bias"])
        x = op.MatMul(left, op.MatMul(x, right))
        return op.Reshape(x, [-1, left.shape[0] * right.shape[0]])

    def _prepared(self, op: OpBuilder, of_call: ir.Value) -> Quantization:
        if self._quantization is None:
            self._quantization = Quantization.of_runtime(op, of_call)
            factor = op.Squeeze(self._quantization.factor_1)
            known = {name: x for name, x in self._tensors.items() if name.endswith((INPUT_SCALE, INPUT_LEAST))}
            self._steps = {name: op.Mul(factor, x) for name, x in known.items()}
        return self._quantization

    def _by_constant(self, op: OpBuilder, name: str, x: ir.Value, matrix: ir.Value, scale: ir.Value) -> ir.Value:
        """The product of a row whose range is known."""
        quantization = self._prepared(op, x)
        zero_point = quantization.even.zero_point
        quantized = op.QuantizeLinear(x, self._steps[name + INPUT_SCALE], zero_point)
        constant = op.Mul(self._tensors[name + INPUT_SCALE], scale)
        return _product(op, quantized, zero_point, matrix, op.Mul(quantization.factor_1, constant))

    def _scaled_by_row(self, op: OpBuilder, name: str, x: ir.Value) -> ir.Value:
        """The product of rows that have a scale each, without the bias, which is to be added by a Sum.

        An Add would be taken into the kernel, and the bias multiplied by the rows' scales (ONNX Runtime 1.32).
        """
        matrix, scale = self._tensors[f"{name}.weight"], self._tensors[f"{name}.weight{SCALE}"]
        quantized, zero_point, scale_S1 = self._by_row(op, name, x, matrix)
        return _product(op, quantized, zero_point, matrix, op.Mul(scale_S1, scale))

    def _by_row(self, op: OpBuilder, name: str, x: ir.Value, matrix: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Rows for a product with a matrix, each over its own scale: uint8, their zero point, the scales [rows, 1]."""
        if factors := self._tensors.get(name + INPUT_FACTORS):
            x = op.Mul(x, factors)
        quantization = self._prepared(op, x)
        least = self._steps.get(name + INPUT_LEAST)
        steps = quantization.above if least else quantization.even
        largest_S1 = op.ReduceMax(x if least else op.Abs(x), [1], keepdims=1)
        scale_S1 = op.Gemm(largest_S1, steps.per_step_11, least or SMALLEST)  # a product and a sum in one operator
        if steps.zero_points_S1 is None:
            steps = steps.for_rows(op, scale_S1)
        assert matrix.shape is not None  # an initializer's, or its transpose's
        # A block as long as the row.
        quantized = op.QuantizeLinear(x, scale_S1, steps.zero_points_S1, axis=1, block_size=matrix.shape[0])
        return quantized, steps.zero_point, scale_S1


def _product(op: OpBuilder, quantized: ir.Value, zero_point: ir.Value, matrix: ir.Value, factor: ir.Value) -> ir.Value:
    return op.Mul(op.Cast(op.MatMulInteger(quantized, matrix, zero_point), to=ir.DataType.FLOAT), factor)
