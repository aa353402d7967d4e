"""A checkpoint: a configuration, and tensors by their published names that fit it.

Does not know where either was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import GPT2Config

from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.config import check_config
from gptloop.checkpoint.generation import GenerationDefaults

# The floating-point precisions, by the names that gptloop has for them.
TORCH_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# What weights may be stored in: a cast of anything else would be another model, without a word.
STORED_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Checkpoint:
    """A GPT-2 language model as configuration and tensors.

    Attributes:
        config: Checked: whatever `gptloop.graph` would get wrong has been refused.
        tensors: By published name without `transformer.`; products as [in, out]; `lm_head.weight` [V, D] only where it
            is not the token embedding. Reading one may read the disk.
        source: Where it came from, for people.
        weights: "pretrained" or "random, seed S".
        directory: The files it was read from, among them maybe a tokenizer's; None for a model in memory.
        generation: What it says about generation.
    """

    config: GPT2Config
    tensors: Mapping[str, torch.Tensor]
    source: str
    weights: str = "pretrained"
    directory: Path | None = None
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)

    def __post_init__(self) -> None:
        check_config(self.config, self.source)
        check_shapes(self)


def expected_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with tied embeddings, by published name."""
    return dict(_expected(config))


def _expected(config: GPT2Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The same one by one, as a configuration may ask for more layers than there is memory for their names."""
    D, inner = config.n_embd, 4 * config.n_embd if config.n_inner is None else config.n_inner
    products = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, inner), "mlp.c_proj": (inner, D)}
    yield "wte.weight", (config.vocab_size, D)
    yield "wpe.weight", (config.n_positions, D)
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        for name in ("ln_1", "ln_2"):
            yield f"{h}.{name}.weight", (D,)
            yield f"{h}.{name}.bias", (D,)
        for name, (rows, columns) in products.items():
            yield f"{h}.{name}.weight", (rows, columns)
            yield f"{h}.{name}.bias", (columns,)
    yield "ln_f.weight", (D,)
    yield "ln_f.bias", (D,)


def check_shapes(checkpoint: Checkpoint) -> None:
    """Refuse tensors that do not fit the configuration, or are of a type that no weights have.

    Raises:
        ValueError: Naming the tensor and both shapes, or its type.
    """
    config, tensors, source = checkpoint.config, checkpoint.tensors, checkpoint.source
    known = {"lm_head.weight"} & set(tensors)
    for name in known:
        _check(source, name, tensors[name], (config.vocab_size, config.n_embd))
    for name, shape in _expected(config):
        if name not in tensors:
            layers = f", and n_layer is {brief(config.n_layer)}" if name.startswith("h.") else ""
            raise ValueError(f"{source}: the weights lack {name}{layers}")
        _check(source, name, tensors[name], shape)
        known.add(name)
    for name in sorted(set(tensors) - known):
        raise ValueError(f"{source}: no layer of the configuration has a {brief(name)}")


def _check(source: str, name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    if (found := tuple(tensor.shape)) != shape:
        raise ValueError(f"{source}: {name} is {list(found)}, the configuration wants {brief(list(shape))}")
    if tensor.is_meta:
        raise ValueError(f"{source}: {name} has no values, it is on torch's meta device")
    if tensor.dtype not in STORED_TYPES:
        types = ", ".join(str(dtype).removeprefix("torch.") for dtype in STORED_TYPES)
        raise ValueError(f"{source}: {name} is of type {tensor.dtype}, weights must be one of {types}")
