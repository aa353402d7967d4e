"""What an exported file holds: metadata, sizes, and the nodes of its graph, outside the Loop and in its body.

Reads the file (gptloop.model_file); runs nothing. The same counts are what a structural gate compares.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from gptloop import names
from gptloop.model_file import graphs, read_model

# Names that gptloop.graph gives: the body of the Loop over a long prompt's chunks, and parts of the names of nodes.
CHUNK_BODY = "attend_chunk"
PREFILL, IN_ONE_PIECE, IN_CHUNKS = "prefill", "whole", "long"


@dataclass(frozen=True)
class Structure:
    """Counts of one model file.

    Attributes:
        metadata: The file's metadata_props.
        opsets: Version by domain.
        inputs: Name and shape of the graph's inputs, in order; likewise outputs.
        optional: Names of the inputs that have a default.
        graph_nodes: Nodes before and after the Loops, by (domain, operator), branches of an If included, and what runs
            for each chunk of a long prompt.
        prefill_nodes: Those of them that a prefill runs whose prompts attend in one piece.
        prefill_nodes_in_chunks: Those of one whose prompts attend in chunks.
        block_nodes: Nodes that run once for a block of steps, likewise: the outer Loop's body, where there are two.
        body_nodes: Nodes that run for each step, likewise: the body of the inner Loop, or of the only one.
        nodes_per_layer: Nodes of one transformer block in the body.
        nodes_outside_layers: The body's other nodes: embedding, LM head, sampling, stop.
        body_weights: Initializers that stand in the step's body or a branch in it (none, by design).
        block_weights: Initializers of the outer Loop's body: the weights a second time, of the same bytes of the file.
        carried: Name and shape of what is carried from step to step.
        carried_bytes_per_step: Bytes by which a step makes the carried values of one row grow. A body that appends to
            them copies what is there already each time.
        weight_bytes: Bytes of the outer graph's initializers, without the inputs' defaults.
        file_bytes: Size by file, the tokenizer's among them.
        metadata_bytes: Bytes of the metadata in the .onnx file, which depend on the checkpoint and versions.
    """

    metadata: dict[str, str]
    opsets: dict[str, int]
    inputs: dict[str, str]
    outputs: dict[str, str]
    optional: frozenset[str] = frozenset()
    graph_nodes: Counter[tuple[str, str]] = field(default_factory=Counter)
    prefill_nodes: int = 0
    prefill_nodes_in_chunks: int = 0
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
    inputs = {value.name: _type(value) for value in graph.input}
    around = list(_walk(graph, into_loops=False))
    body_nodes = list(_walk(body))
    in_layers = sum("/h." in node.name for node in body_nodes)
    return Structure(
        metadata=metadata,
        opsets={opset.domain or "ai.onnx": opset.version for opset in proto.opset_import},
        inputs=inputs,
        outputs={value.name: _type(value) for value in graph.output},
        optional=frozenset(tensor.name for tensor in graph.initializer if tensor.name in inputs),
        graph_nodes=_count(around),
        prefill_nodes=_prefill(around, without=IN_CHUNKS),
        prefill_nodes_in_chunks=_prefill(around, without=IN_ONE_PIECE),
        block_nodes=_count(node for block in blocks for node in _walk(block, into_loops=False)),
        body_nodes=_count(body_nodes),
        nodes_per_layer=in_layers / config["n_layer"],
        nodes_outside_layers=len(body_nodes) - in_layers,
        body_weights=tuple(tensor.name for part in graphs(body) for tensor in part.initializer),
        block_weights=tuple(tensor.name for block in blocks for tensor in block.initializer),
        carried={value.name: _type(value) for value in body.input[2:]},
        carried_bytes_per_step=sum(_growth(value) for value in body.input[2:]),
        weight_bytes=sum(_bytes(tensor) for tensor in graph.initializer if tensor.name not in inputs),
        file_bytes=file_bytes,
        metadata_bytes=_metadata_bytes(proto),
    )


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
            if attribute.HasField("g") and (into_loops or node.op_type != "Loop" or attribute.g.name == CHUNK_BODY):
                yield from _walk(attribute.g, into_loops)


def _prefill(nodes: Iterable[onnx.NodeProto], without: str) -> int:
    """How many nodes stand in the prefill, but for those of one kind of attention."""
    parts = (node.name.split("/") for node in nodes)
    return sum(PREFILL in names_ and without not in names_ for names_ in parts)


def _count(nodes: Iterable[onnx.NodeProto]) -> Counter[tuple[str, str]]:
    return Counter((node.domain or "ai.onnx", node.op_type) for node in nodes)


def _type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    dims = [(dim.dim_param or str(dim.dim_value)) if dim.HasField("value") else "?" for dim in tensor.shape.dim]
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(dims)}]"


def _growth(carried: onnx.ValueInfoProto) -> int:
    """Bytes that one step adds to a carried value of one row: nothing where all dimensions have a number or a name."""
    dims = carried.type.tensor_type.shape.dim
    if all(dim.HasField("value") for dim in dims):
        return 0
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(carried.type.tensor_type.elem_type).itemsize
    return itemsize * math.prod(dim.dim_value for dim in dims if dim.HasField("dim_value"))


def _bytes(tensor: onnx.TensorProto) -> int:
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return next(int(entry.value) for entry in tensor.external_data if entry.key == "length")
    return len(tensor.raw_data)


def _metadata_bytes(proto: onnx.ModelProto) -> int:
    return onnx.ModelProto(metadata_props=proto.metadata_props).ByteSize()
