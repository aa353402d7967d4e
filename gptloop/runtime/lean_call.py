"""What the lean flavors' graphs (gptloop.graph.variants.lean) take of a checked request, and what they have to refuse.

Knows requests and graph inputs; no runtime.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gptloop import names
from gptloop.runtime.request import Request
from gptloop.runtime.threefry import by_step, uniforms

ON_HOST = (names.TOP_K, names.NUM_RETURN_SEQUENCES)  # inputs that are sizes of tensors


def lean_feeds(request: Request, flavor: str, max_new_tokens: int | None) -> dict[str, npt.NDArray[Any]]:
    """The graph's inputs, by name.

    Args:
        request: The call.
        flavor: The file's.
        max_new_tokens: The number that the file is fixed to, if it is.

    Raises:
        ValueError: If the flavor has no such feature, or another number of new tokens.
    """
    greedy = bool((request.temperature == 0).all())
    refused = {
        "eos_token_id": bool(request.eos_token_ids),
        "stop_sequences": request.has_stop_sequences,
        "first_candidate": request.first_candidate > 0,
        "return_logprobs": request.return_logprobs,
        "repetition_penalty": bool((request.repetition_penalty != 1).any()),
        "no_repeat_ngram_size": bool((request.no_repeat_ngram_size > 0).any()),
        "sequence_bias, bad_words_ids or suppress_tokens": bool((request.biased_sequences >= 0).any()),
        "min_p": bool((request.min_p > 0).any()),
        "top_p": bool((request.top_p < 1).any()),
        "temperature 0 for some prompts only": bool((request.temperature == 0).any()) and not greedy,
        "a top_k for each prompt": len(set(request.top_k)) > 1 and not greedy,
        "top_k 0": bool((request.top_k == 0).any()) and not greedy,
    }
    if asked := [name for name, is_asked in refused.items() if is_asked]:
        raise ValueError(f"a file of flavor {flavor!r} has no {', '.join(asked)}; flavor 'standard' has")
    if max_new_tokens is not None and request.max_new_tokens != max_new_tokens:
        raise ValueError(f"this file generates max_new_tokens {max_new_tokens}, got {request.max_new_tokens}")
    feeds = {
        names.INPUT_IDS: request.input_ids,
        names.ATTENTION_MASK: request.attention_mask,
        names.NUM_RETURN_SEQUENCES: np.array([request.num_return_sequences]),
        # Greedy is the draw among the one most likely token.
        names.TEMPERATURE: np.ones_like(request.temperature) if greedy else request.temperature,
        names.TOP_K: np.array([1]) if greedy else request.top_k[:1],
    }
    if max_new_tokens is None:
        return feeds | {names.MAX_NEW_TOKENS: np.array([request.max_new_tokens]), names.SEED: request.seed}
    numbers_BRN = uniforms(request.seed, request.num_return_sequences, request.max_new_tokens)
    return feeds | {names.UNIFORMS: by_step(numbers_BRN)}
