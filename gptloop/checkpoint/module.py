"""A model in memory as a checkpoint."""

from __future__ import annotations

from transformers import GPT2LMHeadModel

from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.generation import GenerationDefaults, defaults_of
from gptloop.checkpoint.layout import other_tasks, published_name, shared_prefix, warn_left_out


def from_module(model: GPT2LMHeadModel, source: str | None = None, weights: str = "pretrained") -> Checkpoint:
    """The model's configuration and tensors; nothing is copied."""
    source = source or model.config.name_or_path or type(model).__name__
    state = model.state_dict()
    shared_prefix(list(state), source)  # which refuses an adapter's
    named = {published_name(name): tensor for name, tensor in state.items()}
    tensors = {name: tensor for name, tensor in named.items() if name is not None}
    if model.lm_head.weight is model.transformer.wte.weight or _same_memory(model):
        del tensors["lm_head.weight"]
    left_out = other_tasks(tensors)
    for name in left_out:
        del tensors[name]
    said = model.generation_config
    defaults = defaults_of(said, model.config.vocab_size, source) if said else GenerationDefaults()
    checkpoint = Checkpoint(model.config, tensors, source, weights, generation=defaults)
    warn_left_out(left_out, source)
    return checkpoint


def _same_memory(model: GPT2LMHeadModel) -> bool:
    head, embedding = model.lm_head.weight, model.transformer.wte.weight
    return not head.is_meta and head.data_ptr() == embedding.data_ptr() and head.shape == embedding.shape
