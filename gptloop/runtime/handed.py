"""What of a model file ONNX Runtime is handed: the very message that was read and checked, and where its data lies.

ONNX Runtime (1.32) refuses data files that are links where a Loop's body names them. So symbolic links are followed
here. A file with several hard links cannot be named in another way: what the body repeats of it is put into the
message.

Knows how a file stores tensors; not what is computed.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort

from gptloop.model_file import ModelFile, external_tensors, located

FOLDER = "session.model_external_initializers_file_folder_path"
PROTOBUF_MAX_BYTES = 2**31 - 1


def to_open(file: ModelFile, options: ort.SessionOptions) -> Path | bytes:
    """The model for a session with these options.

    A model without a data file is given by its path, since ONNX Runtime keeps bytes for as long as the session lives:
    they would be the weights once more.

    Raises:
        ValueError: If its data file has several hard links, and is too large for what has to be done then.
    """
    if not file.data_places:
        return file.path
    folder, proto = located(file)
    options.add_session_config_entry(FOLDER, str(folder.resolve()))
    if any(real.stat().st_nlink > 1 for real in file.data_places.values()):
        proto = _with_inner_data(file, proto, folder)
    return proto.SerializeToString()


def _with_inner_data(file: ModelFile, located_proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model with the data of its inner graphs inside."""
    proto = onnx.ModelProto()
    proto.CopyFrom(located_proto)
    outer = {tensor.name for tensor in proto.graph.initializer}
    inner = [tensor for tensor in external_tensors(file.path, proto) if tensor.proto.name not in outer]
    size = proto.ByteSize() + sum(tensor.length for tensor in inner)
    if size > PROTOBUF_MAX_BYTES:
        raise ValueError(f"{file.path} has a data file with several hard links, which ONNX Runtime refuses: copy it")
    for tensor in inner:
        with (folder / tensor.location).open("rb") as data:
            data.seek(tensor.offset)
            tensor.proto.raw_data = data.read(tensor.length)
        tensor.proto.ClearField("external_data")
        tensor.proto.ClearField("data_location")
    return proto
