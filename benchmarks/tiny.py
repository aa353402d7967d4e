"""A model in which every stage of a long command can be tried in a moment; its times mean nothing."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

# As many positions as the workloads' 36 + 36 tokens.
SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 72, "vocab_size": 257}


def tiny_model() -> GPT2LMHeadModel:
    """Seeded random weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config.from_dict({**SIZES, "bos_token_id": None, "eos_token_id": None})).eval()
