"""Triton's configuration of an exported model, config.pbtxt: what a request holds, and how requests are batched.

Triton puts a batch together by concatenating requests along the first axis, which is that of the prompts in every
input and output of the graph. The configuration leaves that axis out. So what the graph has for each prompt as [B] is
told as [1] of a request, and reshaped: in a batch of b requests it arrives as [b].

Knows the graph's inputs, outputs and metadata; no files.

Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import onnx

from gptloop import names
from gptloop.model_file import ModelFile

OUTPUTS = (names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS, names.REFUSED)
KINDS = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}
# A call takes much longer; requests that arrive at nearly the same time then share one.
QUEUE_DELAY_MICROSECONDS = 2000

_TYPES: dict[int, str] = {
    onnx.TensorProto.INT64: "TYPE_INT64",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.BOOL: "TYPE_BOOL",
}


def config_text(file: ModelFile, name: str, max_batch_size: int, device: str) -> str:
    """The configuration in protobuf's text format.

    Args:
        file: The exported model.
        name: What clients call it.
        max_batch_size: Prompts of one call at most.
        device: "cpu" or "cuda".

    Raises:
        ValueError: If the file cannot be batched: a flavor for a GPU, or a graph of before all of a request's settings
            were its own.
    """
    check_batchable(file)
    outputs = [value for value in file.proto.graph.output if value.name in OUTPUTS]
    blocks = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch_size}",
        _tensors("input", required_inputs(file)),
        _tensors("output", outputs),
        f"instance_group [ {{ count: 1 kind: {KINDS[device]} }} ]",
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_MICROSECONDS} }}",
        *_parameters(file),
    ]
    return "\n".join(blocks) + "\n"


def check_batchable(file: ModelFile) -> None:
    """Check that each of a request's settings is its own in a batch.

    Raises:
        ValueError: If not.
    """
    flavor = file.metadata.get(names.META_FLAVOR, "standard")
    if flavor != "standard":
        raise ValueError(
            f"{file.path} is of flavor {flavor!r}, whose settings hold for a whole batch: export 'standard'"
        )
    for value in required_inputs(file):
        if not _first_dimension(value).split("_")[0] == "B":
            raise ValueError(f"{file.path} has one {value.name} for a whole batch: export it again")


def required_inputs(file: ModelFile) -> list[onnx.ValueInfoProto]:
    """Those without a default; the backend leaves the others out of its count, and allows none of them in a batch."""
    defaults = {tensor.name for tensor in file.proto.graph.initializer}
    return [value for value in file.proto.graph.input if value.name not in defaults]


def _first_dimension(value: onnx.ValueInfoProto) -> str:
    dimensions = value.type.tensor_type.shape.dim
    return dimensions[0].dim_param if dimensions else ""


def _tensors(field: str, values: Sequence[onnx.ValueInfoProto]) -> str:
    return f"{field} [\n" + ",\n".join(f"  {{ {_tensor(value)} }}" for value in values) + "\n]"


def _tensor(value: onnx.ValueInfoProto) -> str:
    """What the graph has as [B] is [1] of a request, as Triton has no empty shapes there."""
    tensor = value.type.tensor_type
    dims = [-1 if dim.dim_param else dim.dim_value for dim in tensor.shape.dim[1:]]  # -1 where a request says how many
    shown = f'name: "{value.name}" data_type: {_TYPES[tensor.elem_type]} dims: [ {", ".join(map(str, dims or [1]))} ]'
    return shown if dims else f"{shown} reshape: {{ shape: [ ] }}"


def _parameters(file: ModelFile) -> list[str]:
    """What a client has to know of the model: the bounds of its requests, and what ends a text."""
    config = json.loads(file.metadata[names.META_CONFIG])
    facts = {key: config[key] for key in ("n_positions", "vocab_size")}
    facts["eos_token_id"] = config["eos_token_id"]
    return [
        f"parameters {{ key: {json.dumps(key)} value: {{ string_value: {json.dumps(json.dumps(fact))} }} }}"
        for key, fact in facts.items()
    ]
