"""Models of the published sizes with seeded random weights; they need no network."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.module import from_module
from gptloop.values import shown

# The published configurations, as far as they differ from GPT2Config's defaults (which are gpt2's).
SIZES: dict[str, dict[str, int]] = {
    "distilgpt2": {"n_layer": 6},
    "gpt2": {},
    "gpt2-medium": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
}


def random_checkpoint(size: str, seed: int = 0) -> Checkpoint:
    """A model of a published size with seeded random weights; needs no network.

    Raises:
        ValueError: If `size` is not one of `SIZES`.
    """
    model = random_model(size, seed)
    return from_module(model, source=size, weights=f"random, seed {seed}")


def random_model(size: str, seed: int = 0) -> GPT2LMHeadModel:
    """The same as a transformers module, in evaluation mode."""
    if size not in SIZES:
        raise ValueError(f"unknown model size {shown(size)}; random weights come in {', '.join(SIZES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(GPT2Config.from_dict(SIZES[size])).eval()
