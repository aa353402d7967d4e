"""The configuration of a GPT-2: read from config.json, and refused where the graph would get it wrong."""

from __future__ import annotations

import math
from pathlib import Path

from transformers import GPT2Config

from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.json_object import read_json_object
from gptloop.checkpoint.quiet import quiet_transformers
from gptloop.names import ACTIVATIONS

# Fields of config.json that say nothing about the model: transformers would make room for num_labels' names, and look
# the dtype up in torch.
NO_MATTER = ("num_labels", "id2label", "label2id", "problem_type", "dtype", "torch_dtype")

# Fields with which transformers would load another model than the tensors say.
OTHER_MODEL = ("quantization_config", "transformers_weights")


def read_config(file: Path) -> GPT2Config:
    """A directory's config.json.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no JSON, or of another kind of model, or transformers refuses a field.
    """
    content = read_json_object(file)
    if content.get("model_type") != "gpt2":
        raise ValueError(f"{file}: model_type must be 'gpt2', got {brief(repr(content.get('model_type')))}")
    for field in OTHER_MODEL:
        if content.get(field) is not None:
            raise ValueError(f"{file}: {field} is not supported, got {brief(repr(content[field]))}")
    try:
        with quiet_transformers():
            return GPT2Config.from_dict({name: value for name, value in content.items() if name not in NO_MATTER})
    except Exception as error:  # whatever a field's own code raises
        raise ValueError(f"{file}: {brief(error)}") from error


def check_config(config: GPT2Config, source: str) -> None:
    """Refuse a configuration that the graph would get wrong.

    Raises:
        ValueError: Naming the field, its value and what is supported.
    """
    if (model_type := getattr(config, "model_type", None)) != "gpt2":
        raise ValueError(f"{source}: model_type must be 'gpt2', got {brief(repr(model_type))}")
    if config.activation_function not in ACTIVATIONS:
        supported = ", ".join(ACTIVATIONS)
        found = brief(repr(config.activation_function))
        raise ValueError(f"{source}: activation_function {found} is not one of {supported}")
    if config.add_cross_attention:
        raise ValueError(f"{source}: add_cross_attention=True is not supported, only decoder-only models")
    for field in ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size"):
        if getattr(config, field) < 1:
            raise ValueError(f"{source}: {field} must be at least 1, got {getattr(config, field)}")
    if config.n_inner is not None and config.n_inner < 1:
        raise ValueError(f"{source}: n_inner must be at least 1, got {config.n_inner}")
    if config.n_embd % config.n_head:
        raise ValueError(f"{source}: n_embd {config.n_embd} is not a multiple of n_head {config.n_head}")
    if not (math.isfinite(config.layer_norm_epsilon) and config.layer_norm_epsilon >= 0):
        epsilon = config.layer_norm_epsilon
        raise ValueError(f"{source}: layer_norm_epsilon must be a finite number of at least 0, got {epsilon}")


def query_scale(config: GPT2Config, layer: int) -> float:
    """What a layer's query-key scores are multiplied by."""
    scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    return scale / (layer + 1) if config.scale_attn_by_inverse_layer_idx else scale
