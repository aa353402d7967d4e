"""How finely int8's activations are quantized: as finely as the runtime adds up products."""

import cut_products
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxscript import GraphBuilder

from gptloop.graph.model import IR_VERSION, OPSET
from gptloop.graph.quantization import COARSER, STEPS, STEPS_ABOVE, STEPS_BELOW, ZERO_POINT, Quantization


@pytest.fixture(params=[False, True], ids=["as here", "coarse"])
def coarse(request):
    with cut_products.always_coarse(request.param):
        yield request.param or cut_products.are_cut()


@pytest.fixture
def found(coarse):
    """The values of `Quantization`, by name."""
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="quantization"))
    of_call = builder.input("of_call", ir.DataType.INT64, ["B"])
    quantization = Quantization.of_runtime(builder.op, of_call)
    values = {
        "factor": quantization.factor_1,
        "zero_point": quantization.even.zero_point,
        "per_step": quantization.even.per_step_11,
        "zero_point_above": quantization.above.zero_point,
        "per_step_above": quantization.above.per_step_11,
    }
    for name, value in values.items():
        builder.add_output(value, name)
    session = ort.InferenceSession(ir.to_proto(ir.Model(builder.graph, ir_version=IR_VERSION)).SerializeToString())
    return {name: x.item() for name, x in zip(values, session.run(None, {"of_call": np.zeros(3, int)}), strict=True)}


def test_the_graph_sees_whether_sums_are_cut(coarse, found):
    assert found["factor"] == (COARSER if coarse else 1)


def test_a_step_is_as_much_larger_as_there_are_fewer(found):
    assert found["zero_point"] == ZERO_POINT / found["factor"]
    assert found["zero_point_above"] == STEPS_BELOW / found["factor"]
    assert found["per_step"] == pytest.approx(found["factor"] / STEPS)
    assert found["per_step_above"] == pytest.approx(found["factor"] / STEPS_ABOVE)


@pytest.mark.parametrize("kind", ["", "_above"])
@pytest.mark.parametrize("rows", [1, 8, 64, 512])
def test_the_largest_values_and_weights_are_multiplied_exactly(found, kind, rows):
    """Whatever the machine: a row's largest value is quantized and meets weights of 127 only."""
    row = np.full((rows, 64), 3.7, np.float32)
    steps = np.rint(row / (row.max() * np.float32(found["per_step" + kind]))) + found["zero_point" + kind]
    assert steps.max() <= 255
    weights = np.full((64, 16), 127, np.int8)
    np.testing.assert_array_equal(
        cut_products.product(steps.astype(np.uint8), weights), steps.astype(np.int64) @ weights.astype(np.int64)
    )
