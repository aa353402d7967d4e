"""Reading a model file: once, whole, and with what it names."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from gptloop import names
from gptloop.model_file.content import check_graph, check_parts
from gptloop.model_file.damage import damaged, shown
from gptloop.model_file.metadata import check_sizes, read_metadata
from gptloop.model_file.places import part_of
from gptloop.model_file.tensors import check_names, check_tensors, external_tensors

PROTOBUF_MAX_BYTES = 2**31 - 1

Identity = tuple[int, ...]  # of a file's content, as far as the system tells


@dataclass(frozen=True)
class ModelFile:
    """A model file whose parts are all there, but for the tokenizer, which token ids do without.

    Attributes:
        path: The .onnx file.
        proto: The model, external data not loaded.
        metadata: Its metadata_props.
        data_places: Where each data file really is, links followed, by the name that the model has for it.
        tokenizer_places: Likewise the tokenizer, where there is one.
        file_bytes: Size by file, as the model names them.
        identity: Which file the model was read from.
    """

    path: Path
    proto: onnx.ModelProto
    metadata: dict[str, str]
    data_places: dict[str, Path]
    tokenizer_places: dict[str, Path]
    file_bytes: dict[str, int]
    identity: Identity

    @property
    def data(self) -> tuple[Path, ...]:
        """The data files, as the model names them."""
        return tuple(self.path.parent / name for name in self.data_places)

    def is_current(self) -> bool:
        """Whether the file at `path` is still the one that was read."""
        try:
            return _identity(os.stat(self.path)) == self.identity
        except OSError:
            return False


def read_model(path: Path, *, verify: bool = False) -> ModelFile:
    """Read an exported model and check that nothing of it is missing, and that it names nothing outside its folder.

    The .onnx file is read once. Where an export replaces it at that moment, so that its data file is gone already, the
    new one is read.

    Args:
        path: The .onnx file.
        verify: Whether to read all of its files and compare them with their recorded hashes.

    Raises:
        FileNotFoundError: If the file, or the data file it refers to, does not exist.
        ValueError: If either is truncated or damaged, the file was not written by gptloop, or it names files elsewhere;
            with `verify` also if the content is not what was exported.
    """
    while True:
        proto, identity = _read(path)
        try:
            file = _checked(path, proto, identity)
            if verify:
                check_parts(path, proto, file.metadata, file.data_places, file.tokenizer_places)
        except (ValueError, OSError):
            if _identity(os.stat(path)) == identity:
                raise
        else:
            return file


def _checked(path: Path, proto: onnx.ModelProto, identity: Identity) -> ModelFile:
    check_names(path, proto)
    metadata = read_metadata(path, proto)
    check_tensors(path, proto)
    data = _data(path, proto)
    check_sizes(path, metadata, proto)
    check_graph(path, proto, metadata)
    tokenizer = _tokenizer(path, metadata)
    sizes = {path.name: path.stat().st_size} | {name: real.stat().st_size for name, real in (data | tokenizer).items()}
    return ModelFile(path, proto, metadata, data, tokenizer, sizes, identity)


def _read(path: Path) -> tuple[onnx.ModelProto, Identity]:
    if not path.is_file():
        raise FileNotFoundError(f"no such model file: {path}{', which is a folder' if path.is_dir() else ''}")
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > PROTOBUF_MAX_BYTES:
            raise ValueError(f"{path} is no ONNX file: {status.st_size} bytes, protobuf ends at {PROTOBUF_MAX_BYTES}")
        content = file.read()
    try:
        return onnx.ModelProto.FromString(content), _identity(status)
    except DecodeError as error:
        raise ValueError(f"{path} is truncated or no ONNX file") from error


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _data(path: Path, proto: onnx.ModelProto) -> dict[str, Path]:
    ends: Counter[str] = Counter()
    for tensor in external_tensors(path, proto):
        ends[tensor.location] = max(ends[tensor.location], tensor.offset + tensor.length)
    data = {location: part_of(path, location, "the location of external data") for location in ends}
    for location, end in ends.items():
        if not data[location].is_file():
            raise FileNotFoundError(f"{path} needs its data file {path.parent / location}, which does not exist")
        if (size := data[location].stat().st_size) < end:
            raise ValueError(f"{path.parent / location} is truncated: {size} bytes, {path} needs {end}")
        if size > end:
            raise ValueError(f"{path.parent / location} is too long: {size} bytes, {path} needs {end}")
    if len({real.parent for real in data.values()}) > 1:
        raise damaged(path, f"its data files are in several folders: {shown(', '.join(data))}")
    return data


def _tokenizer(path: Path, metadata: dict[str, str]) -> dict[str, Path]:
    if (name := metadata.get(names.META_TOKENIZER)) is None:
        return {}
    real = part_of(path, name, names.META_TOKENIZER)
    return {name: real} if real.is_file() else {}


def located(file: ModelFile) -> tuple[Path, onnx.ModelProto]:
    """A model whose external data is named where it really is, links followed: the folder, and what is relative to it.

    For readers that follow no links. The model is the file's own where no name changes.
    """
    folder = next((real.parent for real in file.data_places.values()), file.path.parent)
    moved = {named: real.name for named, real in file.data_places.items() if real.name != named}
    if not moved:
        return folder, file.proto
    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    for tensor in external_tensors(file.path, proto):
        for entry in tensor.proto.external_data:
            if entry.key == "location":
                entry.value = moved.get(entry.value, entry.value)
    return folder, proto
