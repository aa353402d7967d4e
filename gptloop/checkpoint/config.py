"""The configuration of a GPT-2: read from config.json, and refused where the graph would get it wrong."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from transformers import GPT2Config

from gptloop.checkpoint.json_object import read_json_object
from gptloop.names import ACTIVATIONS


def read_config(file: Path) -> GPT2Config:
    """A directory's config.json.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no JSON, or of another kind of model, or transformers refuses a field.
    """
    content = read_json_object(file)
    if content.get("model_type") != "gpt2":
        raise ValueError(f"{file}: model_type must be 'gpt2', got {content.get('model_type')!r}")
    try:
        return GPT2Config.from_dict(content)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {error}") from error


def check_config(config: GPT2Config, source: str) -> None:
    """Refuse a configuration that the graph would get wrong.

    Raises:
        ValueError: Naming the field, its value and what is supported.
    """
    if getattr(config, "model_type", None) != "gpt2":
        raise ValueError(f"{source}: model_type must be 'gpt2', got {getattr(config, 'model_type', None)!r}")
    if config.activation_function not in ACTIVATIONS:
        supported = ", ".join(ACTIVATIONS)
        raise ValueError(f"{source}: activation_function {config.activation_function!r} is not one of {supported}")
    if config.add_cross_attention:
        raise ValueError(f"{source}: add_cross_attention=True is not supported, only decoder-only models")
    for field in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"):
        if getattr(config, field) < 1:
            raise ValueError(f"{source}: {field} must be at least 1, got {getattr(config, field)}")
    if config.n_inner is not None and config.n_inner < 1:
        raise ValueError(f"{source}: n_inner must be at least 1, got {config.n_inner}")
    if config.n_embd % config.n_head:
        raise ValueError(f"{source}: n_embd {config.n_embd} is not a multiple of n_head {config.n_head}")


def query_scale(config: GPT2Config, layer: int) -> float:
    """What a layer's query-key scores are multiplied by."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale
