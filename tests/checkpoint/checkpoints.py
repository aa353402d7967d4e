"""A published configuration, and the layouts in which a model's tensors have been stored."""

import torch

from gptloop.checkpoint import Checkpoint

# config.json of the published gpt2, its sizes aside: older than most of GPT2Config's fields.
PUBLISHED_CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 95,
    "embd_pdrop": 0.1,
    "eos_token_id": 95,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 64,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 64,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 97,
}
CALL = {"max_new_tokens": 10, "num_return_sequences": 2, "seed": 3}
PROMPTS = [[5, 96, 0], [8, 8, 1]]


def short_keys(tensors):
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_buffers(tensors, prefix=""):
    """With the causal mask that transformers stored in every layer until 2023."""
    mask = torch.ones(64, 64).tril().bool()[None, None]
    buffers = {f"{prefix}h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    scalars = {f"{prefix}h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
    return tensors | buffers | scalars


def with_head(tensors):
    """With the LM head stored beside the token embedding that it equals."""
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}


def assert_equal_tensors(found: Checkpoint, expected: Checkpoint) -> None:
    assert set(found.tensors) == set(expected.tensors)
    for name in expected.tensors:
        torch.testing.assert_close(found.tensors[name], expected.tensors[name], rtol=0, atol=0)
