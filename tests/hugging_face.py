"""Prompts and Hugging Face's side of the tests of generation as people use it."""

from __future__ import annotations

import numpy as np
import torch
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

V = 97
# Log-probabilities are sums of a few float32 numbers near 10 in magnitude, whose last bit is 1e-6.
LOGPROB_TOLERANCE = 1e-4


def prompts(count: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, V, (count, length))


def left_padded(rows: list[list[int]], pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
    length = max(map(len, rows))
    ids = np.array([[pad] * (length - len(row)) + row for row in rows])
    mask = np.array([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def hugging_face(tiny, ids, *, eos_token_id=None, **arguments):
    """Greedy tokens of Hugging Face, new ones only; without an end of text unless one is given."""
    tiny.model.generation_config.eos_token_id = None
    ids = torch.as_tensor(ids)
    arguments.setdefault("attention_mask", torch.ones_like(ids))
    arguments.setdefault("pad_token_id", 0)
    output = tiny.model.generate(ids, do_sample=False, eos_token_id=eos_token_id, **arguments)
    return output[:, ids.shape[1] :].numpy()


def hugging_face_processors(*, prompt_len=1, eos=None, min_new=0, penalty=1.0, temperature, top_k, top_p, min_p):
    """What Hugging Face's generate would apply, in its order."""
    processors = LogitsProcessorList()
    if penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(penalty))
    if min_new:
        processors.append(MinNewTokensLengthLogitsProcessor(prompt_len, min_new, eos))
    if temperature:
        processors.append(TemperatureLogitsWarper(temperature))
        if top_k:
            processors.append(TopKLogitsWarper(top_k))
        if top_p < 1:
            processors.append(TopPLogitsWarper(top_p))
        if min_p > 0:
            processors.append(MinPLogitsWarper(min_p))
    return processors
