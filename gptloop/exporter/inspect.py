"""What an exported file holds: metadata, sizes, and the nodes of its graph, outside the Loop and in its body.

Reads the file (gptloop.model_file); runs nothing. The same counts are what a structural gate compares.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from gptloop import names
from gptloop.console import printable
from gptloop.model_file import graphs, read_model

CHUNK_BODY = "attend_chunk"  # of the Loop over the chunks of a long prompt (gptloop.graph.prompt_attention)


@dataclass(frozen=True)
class Structure:
    """Counts of one model file.

    Attributes:
        metadata: The file's metadata_props.
        opsets: Version by domain.
        inputs: Name and shape of the graph's inputs, in order; likewise outputs.
        graph_nodes: Nodes before and after the Loop, by (domain, operator), branches of an If included.
        block_nodes: Nodes that run once for a block of steps, likewise: the outer Loop's body, where there are two.
        body_nodes: Nodes that run for each step, likewise: the body of the inner Loop, or of the only one.
        nodes_per_layer: Nodes of one transformer block in the body.
        nodes_outside_layers: The body's other nodes: embedding, LM head, sampling, stop.
        body_weights: Initializers that stand in the step's body or a branch in it (none, by design).
        block_weights: Initializers of the outer Loop's body: the weights a second time, of the same bytes of the file.
        carried: Name and shape of what is carried from step to step.
        carried_bytes_per_step: Bytes by which a step makes the carried values of one row grow. A body that appends to
            them copies what is there already each time.
        weight_bytes: Bytes of the outer graph's initializers.
        file_bytes: Size by file, the tokenizer's among them.
        metadata_bytes: Bytes of the metadata in the .onnx file, which depend on the checkpoint and versions.
    """

    metadata: dict[str, str]
    opsets: dict[str, int]
    inputs: dict[str, str]
    outputs: dict[str, str]
    graph_nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    block_nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    body_nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    nodes_per_layer: float = 0.0
    nodes_outside_layers: int = 0
    body_weights: tuple[str, ...] = ()
    block_weights: tuple[str, ...] = ()
    carried: dict[str, str] = field(default_factory=dict)
    carried_bytes_per_step: int = 0
    weight_bytes: int = 0
    file_bytes: dict[str, int] = field(default_factory=dict)
    metadata_bytes: int = 0


def inspect(path: str | Path, *, verify: bool = False) -> Structure:
    """Read a model file's structure.

    Args:
        path: The .onnx file.
        verify: Whether to compare all of its files with their recorded hashes, too, as `gptloop.OnnxLoop` does.

    Raises:
        FileNotFoundError: If the file or its data file is missing.
        ValueError: If either is truncated or damaged, or the file was not written by gptloop.
    """
    file = read_model(Path(path), verify=verify)
    return structure_of(file.proto, file.file_bytes)


def structure_of(proto: onnx.ModelProto, file_bytes: dict[str, int]) -> Structure:
    """The structure of a model that gptloop authored, wherever it is.

    Args:
        proto: The model with its metadata; external data need not exist.
        file_bytes: Size by file.
    """
    graph = proto.graph
    bodies = list(_loop_bodies(graph))
    body = bodies[-1] if bodies else onnx.GraphProto()  # an unrolled graph has none
    blocks = bodies[:-1]
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    config = json.loads(metadata[names.META_CONFIG])
    body_nodes = list(_walk(body))
    in_layers = sum("/h." in node.name for node in body_nodes)
    return Structure(
        metadata=metadata,
        opsets={opset.domain or "ai.onnx": opset.version for opset in proto.opset_import},
        inputs={value.name: _type(value) for value in graph.input},
        outputs={value.name: _type(value) for value in graph.output},
        graph_nodes=_count(node for node in _walk(graph, into_loops=False)),
        block_nodes=_count(node for block in blocks for node in _walk(block, into_loops=False)),
        body_nodes=_count(body_nodes),
        nodes_per_layer=in_layers / config["n_layer"],
        nodes_outside_layers=len(body_nodes) - in_layers,
        body_weights=tuple(tensor.name for part in graphs(body) for tensor in part.initializer),
        block_weights=tuple(tensor.name for block in blocks for tensor in block.initializer),
        carried={value.name: _type(value) for value in body.input[2:]},
        carried_bytes_per_step=sum(_growth(value) for value in body.input[2:]),
        weight_bytes=sum(_bytes(tensor) for tensor in graph.initializer),
        file_bytes=file_bytes,
        metadata_bytes=_metadata_bytes(proto),
    )


def render(structure: Structure) -> str:
    """The structure as text for a terminal."""
    lines = ["metadata"]
    for key, value in structure.metadata.items():
        lines.append(f"  {key.removeprefix('gptloop_'):12} {_short(key, value)}")
    lines += ["opsets", *(f"  {domain:12} {version}" for domain, version in structure.opsets.items())]
    lines += ["files", *(f"  {size:>13,} bytes  {name}" for name, size in structure.file_bytes.items())]
    tokenizer = structure.metadata.get(names.META_TOKENIZER)
    if tokenizer and tokenizer not in structure.file_bytes:
        lines.append(f"  {'not there':>19}  {tokenizer}")
    in_steps = len(structure.body_weights)
    lines += ["weights", f"  {structure.weight_bytes:>13,} bytes in the outer graph, {in_steps} tensors in a step"]
    if structure.block_weights:
        lines.append(f"  {len(structure.block_weights):>13,} tensors named again in the outer Loop's body")
    for title, values in (("inputs", structure.inputs), ("outputs", structure.outputs)):
        lines += [title, *(f"  {name:22} {kind}" for name, kind in values.items())]
    lines += ["carried from step to step", f"  {carried_text(structure)}"]
    lines += [f"  {structure.carried_bytes_per_step:,} bytes more of each row with each step"]
    for title, counts in (
        ("outside the Loop", structure.graph_nodes),
        ("of a block of steps", structure.block_nodes),
        ("of a step", structure.body_nodes),
    ):
        if not counts:
            continue
        lines.append(f"nodes {title}: {counts.total()}")
        lines += _count_lines(counts)
    lines.append(f"nodes per layer of a step: {structure.nodes_per_layer:g}")
    return "\n".join(printable(line) for line in lines)


def _loop_bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of the Loops that generate, from the outer one to the inner; branches on the way are looked into."""
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Loop" and attribute.g.name != CHUNK_BODY:
                yield attribute.g
            if attribute.HasField("g"):
                yield from _loop_bodies(attribute.g)


def _walk(graph: onnx.GraphProto, into_loops: bool = True) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g") and (into_loops or node.op_type != "Loop"):
                yield from _walk(attribute.g, into_loops)


def _count(nodes: Iterable[onnx.NodeProto]) -> Counter[tuple[str, str]]:
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


def _growth(carried: onnx.ValueInfoProto) -> int:
    """Bytes that one step adds to a carried value of one row: nothing where no dimension counts steps, T or K."""
    dims = carried.type.tensor_type.shape.dim
    if not any(re.search(r"\b[TK]\b", dim.dim_param) for dim in dims):
        return 0
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(carried.type.tensor_type.elem_type).itemsize
    return itemsize * math.prod(dim.dim_value for dim in dims if not dim.dim_param)


def carried_text(structure: Structure) -> str:
    """What the Loop carries, by type and shape: `1 x int64 [S], 24 x float [B, 12, R, T - 1, 64]`."""
    kinds = Counter(structure.carried.values())
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items())


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return next(int(entry.value) for entry in tensor.external_data if entry.key == "length")
    return len(tensor.raw_data)


def _metadata_bytes(proto: onnx.ModelProto) -> int:
    return onnx.ModelProto(metadata_props=proto.metadata_props).ByteSize()


def _short(key: str, value: str) -> str:
    if key != names.META_CONFIG:
        return value
    config = json.loads(value)
    wanted = ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "activation_function")
    return ", ".join(f"{name} {config[name]}" for name in wanted if config.get(name) is not None)
