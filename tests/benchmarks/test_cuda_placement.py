"""What would leave the GPU inside the Loop, predicted from ONNX Runtime's rules; and the rules, on small graphs.

No GPU is needed, and none is proof: benchmarks.machine.cuda_trace counts what one really does.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.gpu.placement import KERNELS, loop_body, place
from gptloop import export
from gptloop.names import LEAN_FLAVORS

# What a step of a lean graph computes on the CPU: the length, and that it goes on. Both from shapes.
TRIP_ARITHMETIC = {"Add", "Concat", "Greater", "Squeeze"}


@pytest.fixture(scope="module")
def placed(tiny, tmp_path_factory):
    """The placement of a flavor and precision of the tiny model."""
    done = {}

    def of(flavor, precision):
        if (flavor, precision) not in done:
            path = tmp_path_factory.mktemp(flavor) / "model.onnx"
            new_tokens = 4 if flavor == "unrolled" else None
            export(tiny.model, path, flavor=flavor, precision=precision, max_new_tokens=new_tokens)
            done[flavor, precision] = place(path)
        return done[flavor, precision]

    return of


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("flavor", [flavor for flavor in LEAN_FLAVORS if flavor != "unrolled"])
def test_nothing_crosses_the_bus_in_a_step_of_a_lean_graph(placed, flavor, precision):
    body = loop_body(placed(flavor, precision))
    assert (body.to_host, body.to_device, body.without_kernel) == ([], [], [])
    assert {node.split()[0] for node in body.cpu_nodes} <= TRIP_ARITHMETIC
    assert body.subgraphs == {}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_unrolled_graph_has_no_copy_at_all_and_so_can_be_captured(placed, precision):
    placement = placed("unrolled", precision)
    assert (placement.to_host, placement.to_device, placement.without_kernel) == ([], [], [])


@pytest.mark.parametrize("flavor", ["standard", "lean", "fixed", "fused"])
def test_random_numbers_are_made_on_the_cpu_and_copied_once(placed, flavor):
    """The standard graph computes its sizes, so its two counts cross, too; never a value for each bitwise operator."""
    placements = list(placed(flavor, "fp32").all())
    counts = 2 * (flavor == "standard")
    to_host, to_device = ([x for one in placements for x in getattr(one, way)] for way in ("to_host", "to_device"))
    assert len([name for name in to_host if "uniforms" in name]) == counts
    assert len([name for name in to_device if "uniforms" in name]) == 1 + counts
    without = {node.split()[0] for one in placements for node in one.without_kernel}
    assert without == {"BitwiseAnd", "BitwiseXor"}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_operator_of_the_standard_body_has_a_kernel(placed, precision):
    for placement in loop_body(placed("standard", precision)).all():
        assert placement.without_kernel == []


def branch(placement, number, name):
    """Of the If that is so many-th in a graph."""
    ifs = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in placement.subgraphs))
    return placement.subgraphs[f"{ifs[number]}/{name}"]


def test_what_the_standard_body_asks_the_cpu_is_known(placed):
    """Its switches and the step's number; the lean graphs are there to be without. A change here is to be looked at."""
    body = loop_body(placed("standard", "fp32"))
    assert len(body.to_host) == 4  # P, E and T for Split, two conditions of Ifs, the Loop's condition
    assert len(body.to_device) == 2  # the iteration, and P for Split
    assert "iteration" in body.to_device
    plain = branch(body, 0, "else_branch")  # nothing changes the logits
    among_k = branch(plain, 0, "else_branch")  # all rows have the same top_k
    taken = [plain, among_k, branch(among_k, 0, "then_branch"), branch(body, 1, "else_branch")]
    assert sum(len(placement.to_host) for placement in taken) == 5
    assert [placement.to_device for placement in taken] == [[]] * 4


def test_int8_has_no_kernel_for_its_products(placed):
    without = {node.split()[0] for node in loop_body(placed("lean", "int8")).without_kernel}
    assert "MatMulInteger" in without


def small(nodes, inputs, outputs=("y",), initializers=()):
    values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in initializers]
    graph = helper.make_graph(nodes, "small", values, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


X = {"x": (TensorProto.FLOAT, ["A", "B"])}


def test_a_node_without_a_kernel_costs_a_copy_each_way():
    kinds = {"x": (TensorProto.INT32, ["A"])}
    nodes = [
        helper.make_node("Add", ["x", "x"], ["a"]),
        helper.make_node("BitwiseXor", ["a", "a"], ["b"]),
        helper.make_node("Mul", ["b", "a"], ["y"]),
    ]
    placement = place(small(nodes, kinds))
    assert placement.without_kernel == ["BitwiseXor "]
    assert (placement.to_host, placement.to_device) == (["a"], ["b"])


def test_an_element_type_without_a_kernel_counts_as_none():
    nodes = [helper.make_node("CumSum", ["x", "axis"], ["y"])]
    axis = [("axis", np.array(0))]
    for kind, without in ((TensorProto.FLOAT, []), (TensorProto.BFLOAT16, ["CumSum "])):
        assert place(small(nodes, {"x": (kind, ["A"])}, initializers=axis)).without_kernel == without


def test_arithmetic_on_shapes_stays_on_the_cpu_where_a_reshape_reads_it():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=0, end=1),
        helper.make_node("Concat", ["shape", "one"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    placement = place(small(nodes, X, initializers=[("one", np.array([-1]))]))
    assert placement.cpu_nodes == ["Concat "]
    assert (placement.to_host, placement.to_device) == ([], [])


def test_a_shape_computed_on_the_gpu_is_copied_to_the_host():
    kinds = X | {"n": (TensorProto.INT64, [1])}
    nodes = [helper.make_node("Mul", ["n", "n"], ["wanted"]), helper.make_node("Reshape", ["x", "wanted"], ["y"])]
    placement = place(small(nodes, kinds))
    assert (placement.cpu_nodes, placement.to_host) == ([], ["wanted"])


def test_half_precision_is_never_left_to_the_cpu():
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["half", "half"], ["y"]),
    ]
    placement = place(small(nodes, X))
    assert placement.cpu_nodes == ["Cast "]
    assert placement.to_device == ["half"]


def test_a_loops_number_goes_to_the_gpu_where_the_body_computes_with_it():
    body_inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("past", TensorProto.INT64, []),
    ]
    nodes = [helper.make_node("Add", ["past", "i"], ["present"]), helper.make_node("Identity", ["go"], ["go_on"])]
    outputs = [
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("present", TensorProto.INT64, []),
    ]
    loop = helper.make_node(
        "Loop", ["n", "", "zero"], ["y"], body=helper.make_graph(nodes, "body", body_inputs, outputs)
    )
    model = small([loop], {"n": (TensorProto.INT64, [])}, initializers=[("zero", np.array(0))])
    body = loop_body(place(model))
    assert body.to_device == ["go", "i"]
    assert body.to_host == ["go_on"]


def test_every_operator_with_a_kernel_is_one_that_onnx_or_onnx_runtime_knows():
    for domain, name in KERNELS:
        if domain == "":
            assert onnx.defs.has(name), name
