"""A model's tensors as its file describes them: where their bytes stand, and that the description is consistent.

Knows the protobuf message; opens no file.

Source: ONNX's documentation "External Data".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from gptloop.model_file.damage import damaged, shown

ITEM_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.INT16: 2,
    TensorProto.UINT16: 2,
    TensorProto.INT32: 4,
    TensorProto.UINT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}
LARGEST = 2**63 - 1
ENTRIES = ("location", "offset", "length")


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all that are nested in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


@dataclass(frozen=True)
class ExternalTensor:
    """An initializer, of the graph or one nested in it, whose content stands in a data file.

    Attributes:
        proto: Its name, type and shape.
        location: The file's name, as the model has it.
        offset: In bytes, likewise `length`.
    """

    proto: TensorProto
    location: str
    offset: int
    length: int


def external_tensors(path: Path, proto: onnx.ModelProto) -> Iterator[ExternalTensor]:
    """The initializers of a model at `path` that stand in data files.

    Raises:
        ValueError: If one is described wrongly; the model and the tensor are named.
    """
    for graph in graphs(proto.graph):
        for tensor in graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                yield _external(path, tensor)


def _external(path: Path, tensor: TensorProto) -> ExternalTensor:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if sorted(entry.key for entry in tensor.external_data) != sorted(ENTRIES):
        found = shown(", ".join(entry.key for entry in tensor.external_data))
        raise _wrong(path, tensor, f"its external data has {found}, not once each {', '.join(ENTRIES)}")
    offset, length = (_whole(path, tensor, key, entries[key]) for key in ENTRIES[1:])
    if length != (size := tensor_bytes(path, tensor)):
        raise _wrong(path, tensor, f"its external data has length {length}, its shape and type need {size}")
    return ExternalTensor(tensor, entries["location"], offset, length)


def _whole(path: Path, tensor: TensorProto, key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= LARGEST):
        raise _wrong(path, tensor, f"its external data has {key} {shown(text)}, which must be 0 to 2^63 - 1")
    return int(text)


def tensor_bytes(path: Path, tensor: TensorProto) -> int:
    """The bytes that a tensor's shape and type ask for.

    Raises:
        ValueError: If it has no such shape or type.
    """
    if tensor.data_type not in ITEM_BYTES:
        raise _wrong(path, tensor, f"its data_type {tensor.data_type} is none that gptloop writes")
    if any(dim < 0 for dim in tensor.dims):
        raise _wrong(path, tensor, f"its shape {shown(list(tensor.dims))} has a negative dimension")
    return math.prod(tensor.dims) * ITEM_BYTES[tensor.data_type]


def check_names(path: Path, proto: onnx.ModelProto) -> None:
    """Check that names are text: protobuf (upb) hands over bytes that are none as they are.

    Raises:
        ValueError: If one is not.
    """
    for name in _names(proto):
        if not isinstance(name, str):
            raise damaged(path, f"it has a name that is no text: {shown(name)}")


def _names(proto: onnx.ModelProto) -> Iterator[str]:
    for entry in proto.metadata_props:
        yield from (entry.key, entry.value)
    for opset in proto.opset_import:
        yield opset.domain
    for graph in graphs(proto.graph):
        for tensor in graph.initializer:
            yield tensor.name
            for entry in tensor.external_data:
                yield from (entry.key, entry.value)
        for value in (*graph.input, *graph.output):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            yield from (attribute.name for attribute in node.attribute)


def check_tensors(path: Path, proto: onnx.ModelProto) -> None:
    """Check that tensors inside the .onnx file have the bytes they claim, and that only initializers stand outside it.

    Raises:
        ValueError: If not, naming the model and the tensor or node.
    """
    if proto.functions or proto.training_info:
        raise damaged(path, "it holds functions or training information, which gptloop does not write")
    seen = set()
    for graph in graphs(proto.graph):
        if graph.sparse_initializer:
            raise damaged(path, "it holds sparse tensors, which gptloop does not write")
        for tensor in graph.initializer:
            if tensor.name in seen:  # sessions are handed tensors by their names
                raise _wrong(path, tensor, "another one has the same name")
            seen.add(tensor.name)
            if tensor.data_location != TensorProto.EXTERNAL:
                _check_inline(path, tensor)
        for node in graph.node:
            _check_attributes(path, node)


def _check_inline(path: Path, tensor: TensorProto) -> None:
    if tensor.HasField("raw_data") and len(tensor.raw_data) != (size := tensor_bytes(path, tensor)):
        raise _wrong(path, tensor, f"it holds {len(tensor.raw_data)} bytes, its shape and type need {size}")
    if tensor.external_data:
        raise _wrong(path, tensor, "it has external data beside its own")


def _check_attributes(path: Path, node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if attribute.graphs or attribute.tensors or attribute.sparse_tensors or attribute.HasField("sparse_tensor"):
            raise damaged(path, f"attribute {shown(attribute.name)} of node {shown(node.name)} is of a foreign kind")
        if attribute.HasField("t"):
            if attribute.t.data_location == TensorProto.EXTERNAL:
                raise damaged(path, f"the tensor of node {shown(node.name)} stands outside of the file")
            _check_inline(path, attribute.t)


def _wrong(path: Path, tensor: TensorProto, what: str) -> ValueError:
    return damaged(path, f"tensor {shown(tensor.name)}: {what}")
