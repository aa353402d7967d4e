"""What a model file says of itself: present, of the right types, and true of the tensors beside it.

Knows the file's metadata and which tensors its sizes are those of; no other file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx

from gptloop import names
from gptloop.model_file.damage import damaged, shown

# All of them: they end the file, so that one cut short lacks some, even where what is left can be parsed.
REQUIRED = (
    names.META_VERSION,
    names.META_SOURCE,
    names.META_WEIGHTS,
    names.META_CONFIG,
    names.META_PRECISION,
    names.META_OPSET,
)
HASHES = (names.META_DATA_SHA256, names.META_GRAPH_SHA256, names.META_TOKENIZER_SHA256)
SIZES = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size")


def read_metadata(path: Path, proto: onnx.ModelProto) -> dict[str, str]:
    """The metadata of a model at `path`, checked.

    Raises:
        ValueError: If some is missing, there twice, or of a wrong type or size; the file, the entry and the value are
            named.
    """
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    for key in REQUIRED:
        if key not in metadata:
            raise ValueError(f"{path} is truncated or was not written by gptloop: it has no {key}")
    if len(metadata) != len(proto.metadata_props):
        raise damaged(path, "it has some of its metadata twice")
    _check_words(path, metadata)
    _check_config(path, metadata[names.META_CONFIG])
    return metadata


def _check_words(path: Path, metadata: dict[str, str]) -> None:
    def check(key: str, holds: Callable[[str], bool], bound: str) -> None:
        if key in metadata and not holds(metadata[key]):
            raise damaged(path, f"{key} is {shown(metadata[key])}, must be {bound}")

    check(names.META_PRECISION, names.PRECISIONS.__contains__, f"one of {', '.join(names.PRECISIONS)}")
    check(names.META_FLAVOR, names.FLAVORS.__contains__, f"one of {', '.join(names.FLAVORS)}")
    check(names.META_OPSET, lambda text: text.isascii() and text.isdecimal() and len(text) < 4, "a number of an opset")
    for key in HASHES:
        check(key, lambda text: len(text) == 64 and set(text) <= set("0123456789abcdef"), "64 hexadecimal digits")
    at_least_1 = "an integer of at least 1"
    check(
        names.META_MAX_NEW_TOKENS, lambda text: text.isascii() and text.isdecimal() and 0 < len(text) < 10, at_least_1
    )
    check(names.META_MAX_NEW_TOKENS, lambda text: int(text) >= 1, at_least_1)
    if metadata.get(names.META_FLAVOR) == "unrolled" and names.META_MAX_NEW_TOKENS not in metadata:
        raise damaged(path, f"it is of flavor 'unrolled', but has no {names.META_MAX_NEW_TOKENS}")


def _check_config(path: Path, text: str) -> None:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise damaged(path, f"{names.META_CONFIG} is no JSON: {shown(text)}") from None
    if not isinstance(config, dict):
        raise damaged(path, f"{names.META_CONFIG} is {shown(config)}, must be a JSON object")
    for key in SIZES:
        _check(path, config, key, lambda value: _is_whole(value) and value >= 1, "an integer of at least 1")
    inner = "an integer of at least 1, or null"
    _check(path, config, "n_inner", lambda value: value is None or (_is_whole(value) and value >= 1), inner)
    for key in ("bos_token_id", "eos_token_id"):
        _check(path, config, key, _is_ids, "an id, a list of ids, or null")
    known = f"one of {', '.join(names.ACTIVATIONS)}"
    _check(path, config, "activation_function", lambda value: value in (None, *names.ACTIVATIONS), known)


def _check(path: Path, config: dict[str, Any], key: str, holds: Callable[[Any], bool], bound: str) -> None:
    if not holds(config.get(key)):
        raise damaged(path, f"{names.META_CONFIG} has {key} {shown(config.get(key))}, must be {bound}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ids(value: Any) -> bool:
    ids = value if isinstance(value, list) else [value]
    return value is None or all(_is_whole(token) for token in ids)


def check_sizes(path: Path, metadata: Mapping[str, str], proto: onnx.ModelProto) -> None:
    """Check that what the configuration says of sizes is true of the tensors.

    Raises:
        ValueError: If not, naming the file and the entry.
    """
    config = json.loads(metadata[names.META_CONFIG])
    shapes = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    for tensor, sizes in (("wte.weight", ("vocab_size", "n_embd")), ("wpe.weight", ("n_positions", "n_embd"))):
        told = [config[size] for size in sizes]
        if shapes.get(tensor) != told:
            what = f"{' and '.join(sizes)} {shown(told)}, but tensor {tensor} is {shown(shapes.get(tensor))}"
            raise damaged(path, f"{names.META_CONFIG} has {what}")
    layers = sum(name.startswith("h.") and name.endswith(".ln_1.weight") for name in shapes)
    if layers != config["n_layer"]:
        raise damaged(path, f"{names.META_CONFIG} has n_layer {shown(config['n_layer'])}, the graph has {layers}")
    if config["n_embd"] % config["n_head"]:
        raise damaged(
            path, f"{names.META_CONFIG} has n_head {config['n_head']}, no divisor of n_embd {config['n_embd']}"
        )
