"""The structural gate: what a graph of each precision is made of, against tests/graph/structure.toml.

No time is measured, so that every machine comes to the same verdict. gpt2's graph is authored at its real shape from
tensors without data; nothing is exported.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptloop import graph
from gptloop.checkpoint import open_checkpoint
from gptloop.checkpoint.seeded import SIZES
from gptloop.exporter.export import describe
from gptloop.exporter.files import EXTERNAL_FROM_BYTES, HASH_DIGITS
from gptloop.exporter.inspect import Structure, structure_of
from gptloop.exporter.structure_text import carried_text
from gptloop.exporter.tensors import stored_tensors

BUDGET = Path(__file__).with_name("structure.toml")


def published(size: str, precision: str) -> Structure:
    """The structure of a published size's export, with the bytes that its files would have."""
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(**SIZES[size]))
    # One number in place of each tensor's, as a checkpoint without any is refused.
    zeros = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(zeros, assign=True)
    model.tie_weights()
    checkpoint = open_checkpoint(model)
    return structure_of(*_without_data(checkpoint, precision))


def _without_data(checkpoint: Any, precision: str) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model as an export writes it, and the sizes of its files; the weights' file does not exist."""
    model = graph.build(checkpoint.config, stored_tensors(checkpoint, precision), precision)
    model.metadata_props.update(describe(checkpoint, precision))
    location, end = f"model-{'0' * HASH_DIGITS}.data", 0
    stored = [value for part in model.graphs() for value in part.initializers.values()]
    stored = [value for value in stored if value.const_value.nbytes >= EXTERNAL_FROM_BYTES]
    offsets: dict[int, int] = {}
    for tensor in (value.const_value for value in stored):
        if id(tensor) not in offsets:
            offsets[id(tensor)], end = end, end + tensor.nbytes
    for value in stored:
        tensor = value.const_value
        value.const_value = ir.ExternalTensor(
            location, offsets[id(tensor)], tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name
        )
    proto = ir.to_proto(model)
    return proto, {"model.onnx": proto.ByteSize(), location: end}


def facts(structure: Structure, tiny: Structure) -> dict[str, Any]:
    """What the budget holds of one precision.

    Args:
        structure: Of gpt2.
        tiny: Of the tests' tiny model, as it was exported.
    """
    nodes = structure.graph_nodes + structure.block_nodes + structure.body_nodes
    return {
        "nodes_per_layer": structure.nodes_per_layer,
        "nodes_outside_layers": structure.nodes_outside_layers,
        "ifs": structure.body_nodes["ai.onnx", "If"],
        "prefill_nodes": structure.prefill_nodes,
        "prefill_nodes_in_chunks": structure.prefill_nodes_in_chunks,
        "block_nodes": structure.block_nodes.total(),
        "block_weights": len(structure.block_weights),
        "initializers": len(structure.body_weights),
        "domains": sorted({domain for domain, _ in nodes} | set(structure.opsets)),
        "opset": structure.opsets["ai.onnx"],
        "carried": carried_text(structure),
        "carried_bytes_per_step": structure.carried_bytes_per_step,
        "file_bytes_gpt2": file_bytes(structure),
        "file_bytes_tiny": file_bytes(tiny),
    }


def file_bytes(structure: Structure) -> int:
    """Bytes of the files, without the metadata, whose length depends on names and versions."""
    return sum(structure.file_bytes.values()) - structure.metadata_bytes


def differences(precision: str, measured: dict[str, Any], budget: Path = BUDGET) -> str:
    """What moved, and the lines of the budget to change if it was meant; empty if nothing did."""
    text = budget.read_text(encoding="utf-8")
    allowed = tomllib.loads(text).get(precision, {})
    shown = "/".join(budget.parts[-3:])
    lines = []
    for key in allowed | measured:
        if key not in measured:
            lines.append(f"{key}: is no longer counted; if that is meant, remove {_line(text, precision, key, shown)}")
        elif key not in allowed:
            value = _toml(measured[key])
            lines.append(f"{key}: {value} has no budget; add `{key} = {value}` to {shown}, [{precision}]")
        elif allowed[key] != measured[key]:
            change = f"{_toml(allowed[key])} -> {_toml(measured[key])}"
            lines.append(f"{key}: {change}; if that is meant, change {_line(text, precision, key, shown)}")
    return "\n".join([f"the {precision} graph is not what {shown} says:", *lines]) if lines else ""


def _line(text: str, precision: str, key: str, shown: str) -> str:
    """Where a key of the budget stands, for people: `tests/graph/structure.toml, line 12, [fp32] nodes_per_layer`."""
    table = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\[(.+)\]", line):
            table = header[1]
        elif table == precision and re.match(rf"{re.escape(key)}\s*=", line):
            return f"{shown}, line {number}, [{precision}] {key}"
    raise AssertionError(f"{shown} has {key} in another form than `{key} = value` under [{precision}]")


def _toml(value: Any) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)
