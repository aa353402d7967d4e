"""An exported file, read without running it: its metadata, its nodes, and whether it is whole.

Knows the .onnx file and its data file; no runtime.
"""

from __future__ import annotations

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


def _check_data(path: Path, proto: onnx.ModelProto) -> tuple[Path, ...]:
    ends: dict[Path, int] = {}
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entry = {item.key: item.value for item in tensor.external_data}
            data = path.parent / entry["location"]
            ends[data] = max(ends.get(data, 0), int(entry["offset"]) + int(entry["length"]))
    for data, end in ends.items():
        if not data.is_file():
            raise FileNotFoundError(f"{path} needs its data file {data}, which does not exist")
        if (size := data.stat().st_size) < end:
            raise ValueError(f"{data} is truncated: {size} bytes, {path} needs {end}")
    return tuple(ends)
