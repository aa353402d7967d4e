"""Where ONNX Runtime would place a graph's nodes with CUDA, and what then crosses the bus: predicted, without a GPU.

Three rules of ONNX Runtime, read from its source, are followed:

- a node runs on CUDA if there is a kernel for its operator and element type (`KERNELS`), else on the CPU;
- of those with a kernel, a node that works only on what the CPU has anyway (results of Shape, what was computed from
  them, inputs of the graph, small constants) is left to the CPU (GetCpuPreferredNodes);
- what one side makes and the other reads is copied: in a graph by a Memcpy node, into and out of a Loop's or an If's
  subgraph by that node, each time it runs one.

So what this lists for the body of a Loop happens in every step, with a synchronisation for each copy to the host. A
prediction, not a measurement: benchmarks.machine.cuda_trace counts what really happens.

Source: onnxruntime docs/OperatorKernels.md at commit 001d12d (between 1.31 and 1.32), core/framework/
fallback_cpu_capability.cc, core/optimizer/transformer_memcpy.cc, core/providers/cpu/controlflow/loop.cc.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import TensorProto

_HALF = {TensorProto.FLOAT16}
_BF16 = {TensorProto.BFLOAT16}
_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE, *_HALF}
_WIDE = {TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}
_NARROW = {TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16}
_BOOL = {TensorProto.BOOL}
_NUMBERS = _FLOATS | _BF16 | _WIDE | _NARROW
_ALL = _NUMBERS | _BOOL

# By operator: element types of its data for which CUDA has a kernel at opset 21, of all that gptloop's graphs use.
KERNELS: Mapping[tuple[str, str], Set[int]] = {
    ("", name): types
    for names, types in {
        "Add Sub Mul Div": _NUMBERS,
        "And Or Not": _BOOL,
        "Cast Concat Expand Flatten Gather GatherElements Identity If Loop Reshape ScatterElements Shape Slice Split "
        "Squeeze Tile Transpose Unsqueeze": _ALL,
        "CumSum Greater GreaterOrEqual Less LessOrEqual": _FLOATS | _WIDE,
        "Equal": _FLOATS | _WIDE | _BOOL,
        "Erf Gelu Gemm LayerNormalization MatMul Relu Sigmoid Softmax Sum Tanh": _FLOATS | _BF16,
        "Ceil Floor Log LogSoftmax ReduceLogSum ReduceLogSumExp Sqrt": _FLOATS,
        "ArgMax": _FLOATS,
        "GatherND": _FLOATS | _BF16 | _BOOL | {TensorProto.INT64},
        "MatMulInteger": {TensorProto.INT8},
        "Max Min": _FLOATS | _BF16 | _WIDE,
        "Mod": _FLOATS | _BF16 | _WIDE,
        "Neg": _FLOATS | _BF16 | {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64},
        "Pad": _FLOATS | _BOOL,
        "Range": {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64},
        "ReduceMax": _FLOATS | {TensorProto.INT32, TensorProto.INT64},
        "ReduceMin": _FLOATS | {TensorProto.INT32, TensorProto.INT64, TensorProto.INT8, TensorProto.UINT8},
        "ReduceSum": _FLOATS | _BF16 | {TensorProto.INT32, TensorProto.INT64},
        "TopK": _FLOATS | {TensorProto.INT32, TensorProto.INT64},
        "Where": _FLOATS | _BF16 | {TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8},
        # Not in the list: BitwiseAnd, BitwiseXor, DynamicQuantizeLinear, Multinomial.
    }.items()
    for name in names.split()
} | {
    ("com.microsoft", "FastGelu"): _FLOATS | _BF16,
    ("com.microsoft", "SkipLayerNormalization"): {TensorProto.FLOAT, *_HALF, *_BF16},
}

# Which input carries the data, where it is not the first.
_DATA = {"Where": 1}
# By operator: the inputs that the CUDA kernel reads on the CPU: shapes, axes, sizes, conditions.
_SECOND = (
    "CumSum Expand Pad ReduceLogSum ReduceLogSumExp ReduceMax ReduceMin ReduceSum "
    "Reshape Split Squeeze Tile TopK Unsqueeze"
)
HOST_INPUTS: Mapping[str, Set[int]] = {
    **{name: {1} for name in _SECOND.split()},
    "Slice": {1, 2, 3, 4},
    "Range": {0, 1, 2},
    "If": {0},
    "Loop": {0, 1},
}
_HOST_OUTPUTS = {"Shape", "Size"}
_HALF_TYPES = _HALF | _BF16  # never left to the CPU
_SMALL = 100  # elements of a constant that the CPU may read


@dataclass
class Placement:
    """One graph's nodes and copies; subgraphs have their own, under the name of the node they belong to.

    Attributes:
        cpu_nodes: Name and operator of nodes on the CPU.
        without_kernel: Those of them that have no kernel for CUDA.
        to_host: Values copied to the CPU each time the graph runs.
        to_device: Values copied to the GPU each time the graph runs.
        subgraphs: By node and attribute.
    """

    cpu_nodes: list[str] = field(default_factory=list)
    without_kernel: list[str] = field(default_factory=list)
    to_host: list[str] = field(default_factory=list)
    to_device: list[str] = field(default_factory=list)
    subgraphs: dict[str, Placement] = field(default_factory=dict)

    def all(self) -> Iterator[Placement]:
        """This one and those inside."""
        yield self
        for placement in self.subgraphs.values():
            yield from placement.all()


def place(model: onnx.ModelProto | Path) -> Placement:
    """Predict the placement of a model's main graph."""
    if isinstance(model, Path):
        model = onnx.load(model, load_external_data=False)
    model = onnx.shape_inference.infer_shapes(model)
    return _Placer(model.graph, {}, {}, {}).placement


def loop_body(placement: Placement) -> Placement | None:
    """The body of the last Loop, the innermost, which is that of the decode steps; None without a Loop."""
    found = None
    for name, inside in placement.subgraphs.items():
        found = loop_body(inside) or (inside if name.endswith("/body") else found)
    return found


class _Placer:
    """One graph; `outer` says where the values of the graphs around it are: True for the CPU."""

    def __init__(
        self, graph: onnx.GraphProto, outer: dict[str, bool], types: dict[str, int], constants: dict[str, int]
    ):
        self.placement = Placement()
        self._graph, self._outer = graph, outer
        self._constants = constants | {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
        values = [*graph.input, *graph.value_info, *graph.output]
        self._types = types | {value.name: value.type.tensor_type.elem_type for value in values}
        self._types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        self._inputs = {value.name for value in graph.input}
        self._nodes = [node for node in graph.node if not self._is_folded(node)]
        self._on_cpu = self._place()
        self._copies()

    def _is_folded(self, node: onnx.NodeProto) -> bool:
        """Whether everything it reads is constant, so that it is computed when the file is loaded."""
        has_subgraph = any(attribute.HasField("g") for attribute in node.attribute)
        folded = not has_subgraph and all(name in self._constants for name in node.input if name)
        if folded:
            self._constants |= dict.fromkeys(node.output, 1)
        return folded

    def _has_kernel(self, node: onnx.NodeProto) -> bool:
        data = node.input[_DATA.get(node.op_type, 0)]
        # Control flow takes any type; the type of a value that inference does not know is not held against a node.
        types = KERNELS.get((node.domain, node.op_type), set())
        return bool(types) and (node.op_type in ("If", "Loop") or self._types.get(data, 0) in types | {0})

    def _place(self) -> dict[str, bool]:
        """By value made here: whether it is on the CPU."""
        on_cpu: dict[str, bool] = {}
        self._cpu_nodes: set[int] = set()
        for node in self._nodes:
            has_kernel = self._has_kernel(node)
            left = has_kernel and self._is_left_to_the_cpu(node, on_cpu)
            if left or not has_kernel:
                self._cpu_nodes.add(id(node))
                self.placement.cpu_nodes.append(f"{node.op_type} {node.name}")
            if not has_kernel:
                self.placement.without_kernel.append(f"{node.op_type} {node.name}")
            on_cpu |= dict.fromkeys(node.output, left or not has_kernel or node.op_type in _HOST_OUTPUTS)
        return on_cpu

    def _is_left_to_the_cpu(self, node: onnx.NodeProto, on_cpu: dict[str, bool]) -> bool:
        inputs = [name for name in node.input if name]
        if not any(on_cpu.get(name, False) for name in inputs) or node.op_type in _HOST_OUTPUTS | {"If", "Loop"}:
            return False
        for index, name in enumerate(node.input):
            if self._types.get(name) in _HALF_TYPES:
                return False
            if name in self._inputs or self._constants.get(name, _SMALL + 1) <= _SMALL:
                continue
            if not on_cpu.get(name, False) or index in HOST_INPUTS.get(node.op_type, set()):
                return False
        return True

    def _copies(self) -> None:
        wants_cpu, wants_gpu = self._wanted()
        for name in sorted(wants_cpu | wants_gpu):
            if name in self._constants:
                continue
            if name in self._on_cpu or name in self._outer:
                is_on_cpu = self._on_cpu.get(name, self._outer.get(name, False))
                if is_on_cpu and name in wants_gpu:
                    self.placement.to_device.append(name)
                if not is_on_cpu and name in wants_cpu:
                    self.placement.to_host.append(name)
            elif name in wants_gpu and (self._outer or name in wants_cpu):
                self._crossing_input(name, wants_cpu)
        self._place_subgraphs(wants_gpu)

    def _crossing_input(self, name: str, wants_cpu: set[str]) -> None:
        """An explicit input of a Loop's body: number and condition come from the CPU, what is carried from the GPU."""
        index = [value.name for value in self._graph.input].index(name)
        if index < 2 or not self._outer:
            self.placement.to_device.append(name)
        elif name in wants_cpu:
            self.placement.to_host.append(name)

    def _wanted(self) -> tuple[set[str], set[str]]:
        """Values read on the CPU, and on the GPU, by this graph's own nodes."""
        wants_cpu: set[str] = set()
        wants_gpu: set[str] = set()
        for node in self._nodes:
            for index, name in enumerate(node.input):
                host = id(node) in self._cpu_nodes or index in HOST_INPUTS.get(node.op_type, set())
                (wants_cpu if host else wants_gpu).add(name)
        return wants_cpu - {""}, wants_gpu - {""}

    def _place_subgraphs(self, wants_gpu: set[str]) -> None:
        # An input of the graph that nothing here reads on the GPU stays on the CPU.
        own_inputs = {name: name not in wants_gpu and not self._outer for name in self._inputs}
        outer = self._outer | own_inputs | self._on_cpu
        for node, attribute in itertools.chain.from_iterable(((n, a) for a in n.attribute) for n in self._nodes):
            if attribute.HasField("g"):
                inside = _Placer(attribute.g, outer, self._types, self._constants).placement
                self.placement.subgraphs[f"{node.op_type} {node.name}/{attribute.name}"] = inside
                if node.op_type == "Loop":
                    self._condition(attribute.g, inside)

    def _condition(self, body: onnx.GraphProto, inside: Placement) -> None:
        """A Loop reads its condition on the CPU, after each step."""
        condition = body.output[0].name
        (node,) = (node for node in body.node if condition in node.output)
        if f"{node.op_type} {node.name}" not in inside.cpu_nodes and node.op_type not in _HOST_OUTPUTS:
            inside.to_host.append(condition)
