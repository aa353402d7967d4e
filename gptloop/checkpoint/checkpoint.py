"""A checkpoint: a configuration, and tensors by their published names that fit it.

Does not know where either was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GPT2Config

from gptloop.checkpoint.config import check_config

# The floating-point precisions, by the names that gptloop has for them.
TORCH_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


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
    """

    config: GPT2Config
    tensors: Mapping[str, torch.Tensor]
    source: str
    weights: str = "pretrained"
    directory: Path | None = None

    def __post_init__(self) -> None:
        check_config(self.config, self.source)
        check_shapes(self)


def expected_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model with tied embeddings, by published name."""
    D, inner = config.n_embd, 4 * config.n_embd if config.n_inner is None else config.n_inner
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.vocab_size, D), "wpe.weight": (config.n_positions, D)}
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        for name in ("ln_1", "ln_2"):
            shapes |= {f"{h}.{name}.weight": (D,), f"{h}.{name}.bias": (D,)}
        products = {"attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D), "mlp.c_fc": (D, inner), "mlp.c_proj": (inner, D)}
        for name, (rows, columns) in products.items():
            shapes |= {f"{h}.{name}.weight": (rows, columns), f"{h}.{name}.bias": (columns,)}
    return shapes | {"ln_f.weight": (D,), "ln_f.bias": (D,)}


def check_shapes(checkpoint: Checkpoint) -> None:
    """Refuse tensors that do not fit the configuration.

    Raises:
        ValueError: Naming the tensor and both shapes.
    """
    expected = expected_shapes(checkpoint.config)
    if "lm_head.weight" in checkpoint.tensors:
        expected["lm_head.weight"] = expected["wte.weight"]
    for name, shape in expected.items():
        if name not in checkpoint.tensors:
            raise ValueError(f"{checkpoint.source}: the weights lack {name}")
        if (found := tuple(checkpoint.tensors[name].shape)) != shape:
            raise ValueError(f"{checkpoint.source}: {name} is {list(found)}, the configuration wants {list(shape)}")
    for name in sorted(set(checkpoint.tensors) - set(expected)):
        raise ValueError(f"{checkpoint.source}: no layer of the configuration has a {name}")
