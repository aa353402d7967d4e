"""What an exported file was made of, for another graph of the same tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import onnx_ir as ir

from gptloop import names
from gptloop.graph.weights import INPUT_SCALE
from gptloop.model_file import located, read_model

OLDER = ".input_least"  # suffix of a tensor that int8 files had before their activations were quantized as they are


class Exported(NamedTuple):
    """What an exported file was made of, for another graph of the same tensors."""

    config: Any
    tensors: dict[str, ir.TensorProtocol]
    precision: str


def read_exported(path: Path) -> Exported:
    """Configuration and tensors of an exported file; the tensors stay where they are until they are read.

    A model of them that is saved in the same folder shares the data file.

    Raises:
        FileNotFoundError: As `gptloop.model_file.read_model`.
        ValueError: Likewise; or if it is an int8 file of before its activations were quantized as they are.
    """
    file = read_model(path)
    metadata = file.metadata
    folder, proto = located(file)
    graph = ir.from_proto(proto).graph
    ir.external_data.set_base_dir(graph, folder)
    values = graph.initializers
    stored = {name: value.const_value for name, value in values.items() if not name.startswith("const_")}
    tensors = {name: tensor for name, tensor in stored.items() if tensor is not None}
    precision = metadata[names.META_PRECISION]
    if precision == "int8" and (_has(tensors, OLDER) or not _has(tensors, INPUT_SCALE)):
        raise ValueError(f"{path} is an int8 file of an older version, of other tensors: export it again")
    config = SimpleNamespace(**json.loads(metadata[names.META_CONFIG]))
    return Exported(config, tensors, precision)


def _has(tensors: Mapping[str, ir.TensorProtocol], suffix: str) -> bool:
    return any(name.endswith(suffix) for name in tensors)
