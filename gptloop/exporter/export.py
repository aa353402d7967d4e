"""From a checkpoint to an ONNX file, in one call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy.typing as npt
import onnx_ir as ir

from gptloop import graph, names
from gptloop.caller import warn_caller
from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.checkpoint.folder import check_path
from gptloop.checkpoint.tokenizer import read_tokenizer
from gptloop.exporter.calibration import Calibration, calibrate
from gptloop.exporter.files import Progress, initial_tensors
from gptloop.exporter.tensors import check_values, stored_tensors
from gptloop.exporter.write import write_model
from gptloop.graph.variants.lean import build_lean
from gptloop.values import shown, whole_number

PROTOBUF_MAX_BYTES = 2**31 - 1


def export(
    model: Model | Checkpoint,
    path: str | Path,
    *,
    precision: str = "fp32",
    flavor: str = "standard",
    max_new_tokens: int | None = None,
    calibration: npt.ArrayLike | None = None,
    single_file: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a GPT-2 checkpoint as one ONNX model whose single `run` generates.

    The weights go into a file beside it, `<stem>-<hash of the content>.data`, and the tokenizer of a hub id or a
    directory, if it has one, into `<stem>-<hash of the content>.tokenizer.json`. The rename of the .onnx file, which
    names both, is the one commit point: an export that ends before it leaves whatever stood at `path` as it was; after
    it, files of former exports to `path` that no ONNX file in the folder names any more are removed. Several exports
    may write to one folder at the same time: they do it one after the other.

    Args:
        model: A GPT2LMHeadModel, a hub id, or a local directory with config.json and safetensors.
        path: The .onnx file to write; its folder must exist.
        precision: "fp32"; "fp16" or "bf16": weights, activations and KV cache in half precision; or "int8": matrices
            in 8 bits, about a quarter of the size.
        flavor: "standard"; or "lean", "fixed", "fused" or "unrolled", graphs for a GPU that sample by temperature and
            one top_k and end at max_new_tokens only (gptloop.graph.variants.lean says how they differ).
        max_new_tokens: The number that an "unrolled" graph generates; of no other flavor.
        calibration: For int8, token ids [L] of a text that shows the activations' ranges; the weights alone tell them
            well enough unless single units of an MLP stand out.
        single_file: Put the weights into the .onnx file itself; up to protobuf's 2 GB.
        progress: Called with (tensors written, tensors in all).

    Returns:
        `path`.

    Raises:
        ValueError: If the precision or flavor is unknown or max_new_tokens does not fit it, the path does not end in
            .onnx, the configuration is not supported, the tokenizer cannot be read or has more tokens than the model,
            a single file would be too large, or a weight is NaN, infinite or beyond the precision's range.
        FileNotFoundError: If the folder of `path` or a file of the checkpoint does not exist.
        OSError: If the files cannot be written, as on a full disk; the model file and the cause are named.
    """
    path = Path(path)
    _check_kind(precision, flavor, max_new_tokens, calibration)
    check_path(path)
    _check_file(path)
    checkpoint = open_checkpoint(model)
    vocab_size = checkpoint.config.vocab_size
    tokenizer = read_tokenizer(checkpoint.directory, vocab_size) if checkpoint.directory else None
    check_values(checkpoint, precision)
    _warn_of_defaults(checkpoint)
    seen = None if calibration is None else calibrate(checkpoint, calibration)
    tensors = stored_tensors(checkpoint, precision, seen)
    if flavor == "standard":
        # A single file would hold the weights twice.
        onnx_model = graph.build(checkpoint.config, tensors, precision, repeat_weights=not single_file)
    else:
        onnx_model = build_lean(checkpoint.config, tensors, precision, flavor, max_new_tokens)
    onnx_model.metadata_props.update(describe(checkpoint, precision, flavor, max_new_tokens, seen))
    if single_file:
        _check_size(onnx_model)
    write_model(onnx_model, path, tokenizer=tokenizer, single_file=single_file, progress=progress)
    return path


def _check_file(path: Path) -> None:
    if path.suffix != ".onnx":
        raise ValueError(f"the model file must end in .onnx, got {shown(path.name)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    if path.is_dir():
        raise ValueError(f"the model file cannot be a folder: {path}")


def _check_size(model: ir.Model) -> None:
    size = sum(tensor.nbytes for tensor in initial_tensors(model))
    if size > PROTOBUF_MAX_BYTES:
        raise ValueError(f"weights of {size} bytes do not fit a single file, protobuf ends at {PROTOBUF_MAX_BYTES}")


def _check_kind(precision: str, flavor: str, max_new_tokens: int | None, calibration: npt.ArrayLike | None) -> None:
    if precision not in names.PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(names.PRECISIONS)}, got {shown(precision)}")
    if calibration is not None and precision != "int8":
        raise ValueError(f"calibration is for precision 'int8', got precision {precision!r}")
    if flavor not in names.FLAVORS:
        raise ValueError(f"flavor must be one of {', '.join(names.FLAVORS)}, got {shown(flavor)}")
    if flavor == "fused" and precision == "int8":
        raise ValueError("flavor 'fused' is for floating-point precisions, got precision 'int8'")
    if flavor != "unrolled":
        if max_new_tokens is not None:
            given = shown(max_new_tokens)
            raise ValueError(f"max_new_tokens is fixed in flavor 'unrolled' only, got {given} for {flavor!r}")
    elif max_new_tokens is None:
        raise ValueError("flavor 'unrolled' needs max_new_tokens, the number of steps that are written out")
    else:
        whole_number("max_new_tokens", max_new_tokens, at_least=1)


def _warn_of_defaults(checkpoint: Checkpoint) -> None:
    if others := checkpoint.generation.others:
        text = f"{checkpoint.source}: its defaults {', '.join(others)} are not exported; give them when you generate"
        warn_caller(text)


def describe(
    checkpoint: Checkpoint,
    precision: str,
    flavor: str = "standard",
    max_new_tokens: int | None = None,
    calibration: Calibration | None = None,
) -> dict[str, str]:
    """The file's metadata; what ends and starts a text is there as part of the configuration, as runtimes expect."""
    said = checkpoint.generation
    tokens = {"eos_token_id": _one_or_list(said.eos_token_ids), "bos_token_id": _one_or_list(said.bos_token_ids)}
    facts = {
        names.META_VERSION: metadata.version("gptloop"),
        names.META_SOURCE: checkpoint.source,
        names.META_WEIGHTS: checkpoint.weights,
        names.META_CONFIG: json.dumps(checkpoint.config.to_dict() | tokens, sort_keys=True),
        names.META_PRECISION: precision,
        names.META_OPSET: str(graph.OPSET),
        names.META_FLAVOR: flavor,
    }
    if calibration:
        facts[names.META_CALIBRATION] = json.dumps(calibration.describe())
    if max_new_tokens is not None:
        facts[names.META_MAX_NEW_TOKENS] = str(max_new_tokens)
    return facts


def _one_or_list(ids: Sequence[int]) -> int | list[int] | None:
    return list(ids) if len(ids) > 1 else next(iter(ids), None)
