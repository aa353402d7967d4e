"""What an exported file holds: metadata, sizes, and the nodes of its graph, outside the Loop and in its body.

Reads the file (gptloop.model_file); runs nothing. The same counts are what a structural gate compares.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from gptloop import names
from gptloop.model_file import ModelFile, read_model


@dataclass(frozen=True)
class Structure:
    """Counts of one model file.

    Attributes:
        metadata: The file's metadata_props.
        opsets: Version by domain.
        inputs: Name and shape of the graph's inputs, in order; likewise outputs.
        graph_nodes: Nodes before and after the Loop, by (domain, operator), branches of an If included.
        body_nodes: Nodes of the Loop's body, likewise.
        nodes_per_layer: Nodes of one transformer block in the body.
        body_weights: Initializers that stand in the body (none, by design).
        carried: Name and shape of the Loop's carried values.
        weight_bytes: Bytes of the outer graph's initializers.
        file_bytes: Size by file.
    """

    metadata: dict[str, str]
    opsets: dict[str, int]
    inputs: dict[str, str]
    outputs: dict[str, str]
    graph_nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    body_nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    nodes_per_layer: float = 0.0
    body_weights: tuple[str, ...] = ()
    carried: dict[str, str] = field(default_factory=dict)
    weight_bytes: int = 0
    file_bytes: dict[str, int] = field(default_factory=dict)


def inspect(path: str | Path) -> Structure:
    """Read a model file's structure.

    Raises:
        FileNotFoundError: If the file or its data file is missing.
        ValueError: If either is truncated, or the file was not written by gptloop.
    """
    file = read_model(Path(path))
    graph = file.proto.graph
    loops = [node.attribute[0].g for node in graph.node if node.op_type == "Loop"]
    body = loops[0] if loops else onnx.GraphProto()  # an unrolled graph has none
    config = json.loads(file.metadata[names.META_CONFIG])
    in_layers = sum("/h." in node.name for node in body.node)
    return Structure(
        metadata=file.metadata,
        opsets={opset.domain or "ai.onnx": opset.version for opset in file.proto.opset_import},
        inputs={value.name: _type(value) for value in graph.input},
        outputs={value.name: _type(value) for value in graph.output},
        graph_nodes=_count(node for node in _walk(graph, into_loops=False)),
        body_nodes=_count(_walk(body)),
        nodes_per_layer=in_layers / config["n_layer"],
        body_weights=tuple(tensor.name for tensor in body.initializer),
        carried={value.name: _type(value) for value in body.input[2:]},
        weight_bytes=sum(_bytes(tensor) for tensor in graph.initializer),
        file_bytes=_file_bytes(file),
    )


def render(structure: Structure) -> str:
    """The structure as text for a terminal."""
    lines = ["metadata"]
    for key, value in structure.metadata.items():
        lines.append(f"  {key.removeprefix('gptloop_'):12} {_short(key, value)}")
    lines += ["opsets", *(f"  {domain:12} {version}" for domain, version in structure.opsets.items())]
    lines += ["files", *(f"  {size:>13,} bytes  {name}" for name, size in structure.file_bytes.items())]
    lines += [
        f"weights\n  {structure.weight_bytes:>13,} bytes in the outer graph, {len(structure.body_weights)} in the body"
    ]
    for title, values in (("inputs", structure.inputs), ("outputs", structure.outputs)):
        lines += [title, *(f"  {name:22} {kind}" for name, kind in values.items())]
    lines += [f"carried by the Loop\n  {_carried(structure.carried)}"]
    for title, counts in (("outside the Loop", structure.graph_nodes), ("Loop body", structure.body_nodes)):
        lines.append(f"nodes {title}: {counts.total()}")
        lines += _count_lines(counts)
    lines.append(f"nodes per layer in the body: {structure.nodes_per_layer:g}")
    return "\n".join(lines)


def _walk(graph: onnx.GraphProto, into_loops: bool = True) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g") and (into_loops or node.op_type != "Loop"):
                yield from _walk(attribute.g, into_loops)


def _count(nodes: Iterator[onnx.NodeProto]) -> Counter[tuple[str, str]]:
    return Counter((node.domain or "ai.onnx", node.op_type) for node in nodes)


def _count_lines(counts: Counter[tuple[str, str]]) -> list[str]:
    lines = []
    for domain in sorted({domain for domain, _ in counts}):
        ops = [(op, n) for (d, op), n in counts.most_common() if d == domain]
        lines.append(f"  {domain}: {sum(n for _, n in ops)} ({', '.join(f'{op} {n}' for op, n in ops)})")
    return lines


def _type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{dims}]"


def _carried(carried: dict[str, str]) -> str:
    kinds = Counter(carried.values())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return next(int(entry.value) for entry in tensor.external_data if entry.key == "length")
    return len(tensor.raw_data)


def _file_bytes(file: ModelFile) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (file.path, *file.data)}


def _short(key: str, value: str) -> str:
    if key != names.META_CONFIG:
        return value
    config = json.loads(value)
    wanted = ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "activation_function")
    return ", ".join(f"{name} {config[name]}" for name in wanted if config.get(name) is not None)
