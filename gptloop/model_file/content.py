"""Whether the bytes of a model are those that were exported: hashes that its file records, computed again.

The graph's is small and always compared: a flipped bit in it may well run, with other tokens. What the metadata say of
the model's source may be edited, and so may the names of its parts. The weights' and the tokenizer's are compared on
demand. Files of before hashes were recorded have the first digits of a part's in the part's name.

Knows the protobuf messages and hashes; nothing of what is computed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import onnx
from onnx import TensorProto

from gptloop import names
from gptloop.model_file.damage import damaged
from gptloop.model_file.tensors import graphs

WEIGHT_FROM_BYTES = 1024  # smaller tensors are constants and shapes, and count as the graph's
BESIDE_THE_GRAPH = (names.META_FLAVOR, names.META_MAX_NEW_TOKENS, names.META_PRECISION)  # metadata that it goes with


def graph_sha256(proto: onnx.ModelProto) -> str:
    """SHA-256 of a model without its weights, the names of its data files, and the rest of its metadata."""
    bare = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    bare.graph.node.extend(proto.graph.node)
    bare.graph.input.extend(proto.graph.input)
    bare.graph.output.extend(proto.graph.output)
    bare.graph.value_info.extend(proto.graph.value_info)
    for tensor in proto.graph.initializer:
        _add_bare(tensor, bare.graph)
    for inner in list(graphs(bare.graph))[1:]:
        tensors = list(inner.initializer)
        del inner.initializer[:]
        for tensor in tensors:
            _add_bare(tensor, inner)
    bare.metadata_props.extend(entry for entry in proto.metadata_props if entry.key in BESIDE_THE_GRAPH)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def _add_bare(tensor: TensorProto, graph: onnx.GraphProto) -> None:
    """Add to a graph what there is to a tensor beside the bytes of a weight and where they are."""
    if tensor.data_location == TensorProto.EXTERNAL:
        bare = graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        bare.external_data.extend(entry for entry in tensor.external_data if entry.key != "location")
    elif _is_weight(tensor):
        graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    else:
        graph.initializer.add().CopyFrom(tensor)


def _is_weight(tensor: TensorProto) -> bool:
    return len(tensor.raw_data) >= WEIGHT_FROM_BYTES


def inner_weights_sha256(proto: onnx.ModelProto) -> str:
    """SHA-256 of the weights that stand in the .onnx file itself, in their order."""
    digest = hashlib.sha256()
    for graph in graphs(proto.graph):
        for tensor in filter(_is_weight, graph.initializer):
            digest.update(tensor.raw_data)
    return digest.hexdigest()


def check_graph(path: Path, proto: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Compare a model's graph with its recorded hash, if there is one.

    Raises:
        ValueError: If it is another.
    """
    if metadata.get(names.META_GRAPH_SHA256, found := graph_sha256(proto)) != found:
        other = f"or another tool has changed it, which would have to remove {names.META_GRAPH_SHA256}"
        raise damaged(path, f"its graph is not what was exported, {other}")


def check_parts(
    path: Path,
    proto: onnx.ModelProto,
    metadata: Mapping[str, str],
    data: Mapping[str, Path],
    tokenizer: Mapping[str, Path],
) -> None:
    """Compare a model's weights and its tokenizer with their recorded hashes.

    Args:
        path: The .onnx file.
        proto: What it holds.
        metadata: What it says of itself.
        data: Where its data files are, by the names it has for them.
        tokenizer: Likewise.

    Raises:
        ValueError: If a file is not what was exported, or nothing says what that was; it is named.
    """
    for parts, key in ((data, names.META_DATA_SHA256), (tokenizer, names.META_TOKENIZER_SHA256)):
        for named, real in parts.items():
            in_name = re.search(r"-([0-9a-f]{16})\.(?:data|tokenizer\.json)$", named)
            with real.open("rb") as part:
                found = hashlib.file_digest(part, "sha256").hexdigest()
            _compare(path.parent / named, found, metadata.get(key) or (in_name and in_name[1]))
    if not data:
        _compare(path, inner_weights_sha256(proto), metadata.get(names.META_DATA_SHA256))


def _compare(file: Path, found: str, wanted: str | None) -> None:
    if not wanted:
        raise ValueError(f"{file} cannot be verified: it was exported before hashes were recorded")
    if not found.startswith(wanted):
        raise damaged(file, f"the SHA-256 of its content is {found[:16]}..., of what was exported {wanted[:16]}...")
