"""What a text makes a checkpoint's activations be: the ranges that weights alone cannot show.

Knows the PyTorch model; not what is done with the ranges (gptloop.exporter.folding).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import GPT2LMHeadModel

from gptloop.checkpoint import Checkpoint
from gptloop.exporter.rotation import rotate
from gptloop.values import array


@dataclass(frozen=True)
class Calibration:
    """Ranges over a text.

    Attributes:
        normed: By name of a product, the largest absolute value of its rotated, normalized input.
        context: Of each layer, float32 [D], the largest absolute value of each channel of attention's context.
        inner: Likewise, float32 [inner], of the MLP behind its activation function.
        tokens: How many the text had.
        digest: SHA-256 of its ids as little-endian int64.
    """

    normed: Mapping[str, float]
    context: Sequence[torch.Tensor]
    inner: Sequence[torch.Tensor]
    tokens: int
    digest: str

    def describe(self) -> dict[str, Any]:
        """What a file records of it."""
        return {"tokens": self.tokens, "ids_sha256": self.digest}


def calibrate(checkpoint: Checkpoint, ids: npt.ArrayLike) -> Calibration:
    """Run a text through the checkpoint in float32, in windows of n_positions, and note the ranges.

    Args:
        checkpoint: The model.
        ids: Integers [L], a text; a few thousand tokens of what the model is used for.

    Raises:
        ValueError: If the ids are not a row of integers within the vocabulary.
    """
    text = _checked(ids, checkpoint.config.vocab_size)
    seen = _Ranges(checkpoint)
    with torch.inference_mode():
        for window in torch.from_numpy(text).split(checkpoint.config.n_positions):
            seen.model(window[None], use_cache=False)
    digest = hashlib.sha256(text.astype("<i8").tobytes()).hexdigest()
    return Calibration(seen.normed, seen.context, seen.inner, len(text), digest)


class _Ranges:
    """A model in memory whose activations leave their ranges here."""

    def __init__(self, checkpoint: Checkpoint):
        self.model = _module(checkpoint)
        self.normed: dict[str, float] = {}
        self.context: list[torch.Tensor] = []
        self.inner: list[torch.Tensor] = []
        transformer: Any = self.model.transformer
        for layer, block in enumerate(transformer.h):
            self._note_normed(block.ln_1, f"h.{layer}.attn.c_attn")
            self._note_normed(block.ln_2, f"h.{layer}.mlp.c_fc")
            self._note_channels(block.attn.c_proj, self.context)
            self._note_channels(block.mlp.c_proj, self.inner)
        self._note_normed(transformer.ln_f, "lm_head")

    def _note_normed(self, norm: torch.nn.LayerNorm, product: str) -> None:
        self.normed[product] = 0.0

        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = torch.nn.functional.layer_norm(inputs[0], inputs[0].shape[-1:], eps=norm.eps)
            self.normed[product] = max(self.normed[product], float(rotate(x[0]).abs().max()))

        norm.register_forward_pre_hook(note)

    def _note_channels(self, product: torch.nn.Module, ranges: list[torch.Tensor]) -> None:
        layer = len(ranges)
        ranges.append(torch.zeros(()))

        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            ranges[layer] = torch.maximum(ranges[layer], inputs[0][0].abs().amax(0))

        product.register_forward_pre_hook(note)


def _module(checkpoint: Checkpoint) -> GPT2LMHeadModel:
    tensors = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in checkpoint.tensors.items()}
    config = copy.deepcopy(checkpoint.config)
    config.tie_word_embeddings = "lm_head.weight" not in tensors  # whatever the configuration says, as in the graph
    head = tensors.pop("lm_head.weight", tensors["wte.weight"])
    model = GPT2LMHeadModel(config).eval()
    model.load_state_dict({"lm_head.weight": head} | {f"transformer.{name}": x for name, x in tensors.items()})
    return model


def _checked(ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.int64]:
    text = array("calibration", ids)
    if text.ndim != 1 or not text.size or not np.issubdtype(text.dtype, np.integer):
        raise ValueError(
            f"calibration must be a row of at least 1 token id, got {text.dtype} of shape {list(text.shape)}"
        )
    if not 0 <= text.min() <= text.max() < vocab_size:
        raise ValueError(
            f"calibration must be within 0..{vocab_size - 1} (vocab_size {vocab_size}), got {text.min()}..{text.max()}"
        )
    return np.ascontiguousarray(text, dtype=np.int64)
