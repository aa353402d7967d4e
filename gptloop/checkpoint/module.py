"""A model in memory as a checkpoint."""

from __future__ import annotations

from transformers import GPT2LMHeadModel

from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.layout import leave_out_other_tasks, published_name


def from_module(model: GPT2LMHeadModel, source: str | None = None, weights: str = "pretrained") -> Checkpoint:
    """The model's configuration and tensors; nothing is copied."""
    source = source or model.config.name_or_path or type(model).__name__
    named = {published_name(name): tensor for name, tensor in model.state_dict().items()}
    tensors = {name: tensor for name, tensor in named.items() if name is not None}
    if model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr():
        del tensors["lm_head.weight"]
    leave_out_other_tasks(tensors, source)
    return Checkpoint(model.config, tensors, source, weights)
