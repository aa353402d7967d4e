"""Products whose sums ONNX Runtime cuts on x64 CPUs without VNNI, and what tests of int8 do about it."""

import contextlib
from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from gptloop.graph import quantization


def product(inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """uint8 [S, K] times int8 [K, N] in ONNX Runtime: int32."""
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "weights"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, list(inputs.shape))],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [len(inputs), weights.shape[1]])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": inputs})[0]


def are_cut() -> bool:
    """Whether this machine's are."""
    inputs, weights = np.full((1, 8), 255, np.uint8), np.full((8, 1), 127, np.int8)
    return product(inputs, weights).item() != 8 * 255 * 127


@contextlib.contextmanager
def always_coarse(wanted: bool = True) -> Iterator[None]:
    """What is exported here quantizes with 7 bits in every runtime, since no sum is what it expects."""
    with pytest.MonkeyPatch.context() as patch:
        if wanted:
            patch.setattr(quantization, "SUM", 0)
        yield


@contextlib.contextmanager
def as_here() -> Iterator[None]:
    """What is exported here quantizes in every runtime as in this machine's ONNX Runtime."""
    with always_coarse(are_cut()):
        yield
