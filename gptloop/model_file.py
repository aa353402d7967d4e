"""An exported file, read without running it: its metadata, its nodes, and whether it is whole.

Knows the .onnx file and its data file; no runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from gptloop import names

# All of them: they end the file, so that one cut short lacks some, even where what is left can be parsed.
REQUIRED = (
    names.META_VERSION,
    names.META_SOURCE,
    names.META_WEIGHTS,
    names.META_CONFIG,
    names.META_PRECISION,
    names.META_OPSET,
)


@dataclass(frozen=True)
class ModelFile:
    """A model file whose parts are all there.

    Attributes:
        path: The .onnx file.
        proto: The model, external data not loaded.
        data: Its data files.
    """

    path: Path
    proto: onnx.ModelProto
    data: tuple[Path, ...]

    @property
    def metadata(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.proto.metadata_props}


def read_model(path: Path) -> ModelFile:
    """Read an exported model and check that nothing of it is missing.

    Raises:
        FileNotFoundError: If the file, or the data file it refers to, does not exist.
        ValueError: If either is truncated, or the file was not written by gptloop.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such model file: {path}")
    try:
        proto = onnx.load_model(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is truncated or no ONNX file") from error
    keys = {entry.key for entry in proto.metadata_props}
    for key in REQUIRED:
        if key not in keys:
            raise ValueError(f"{path} is truncated or was not written by gptloop: it has no {key}")
    return ModelFile(path, proto, _check_data(path, proto))


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
        data: The file.
        offset: In bytes, likewise `length`.
    """

    proto: onnx.TensorProto
    data: Path
    offset: int
    length: int


def external_tensors(path: Path, proto: onnx.ModelProto) -> Iterator[ExternalTensor]:
    """The initializers of a model at `path` that stand in data files."""
    for graph in graphs(proto.graph):
        for tensor in graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                entry = {item.key: item.value for item in tensor.external_data}
                data = path.parent / entry["location"]
                yield ExternalTensor(tensor, data, int(entry["offset"]), int(entry["length"]))


def _check_data(path: Path, proto: onnx.ModelProto) -> tuple[Path, ...]:
    ends: dict[Path, int] = {}
    for tensor in external_tensors(path, proto):
        ends[tensor.data] = max(ends.get(tensor.data, 0), tensor.offset + tensor.length)
    for data, end in ends.items():
        if not data.is_file():
            raise FileNotFoundError(f"{path} needs its data file {data}, which does not exist")
        if (size := data.stat().st_size) < end:
            raise ValueError(f"{data} is truncated: {size} bytes, {path} needs {end}")
    return tuple(ends)
