"""The graph's inputs of a checked request, for whoever runs an exported file."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gptloop import names
from gptloop.runtime.request import Request


def feeds(request: Request) -> dict[str, npt.NDArray[Any]]:
    """By name, without those that have a default."""
    return {
        names.INPUT_IDS: request.input_ids,
        names.ATTENTION_MASK: request.attention_mask,
        names.MAX_NEW_TOKENS: np.array([request.max_new_tokens]),
        names.MIN_NEW_TOKENS: np.array([request.min_new_tokens]),
        names.NUM_RETURN_SEQUENCES: np.array([request.num_return_sequences]),
        names.FIRST_CANDIDATE: np.array([request.first_candidate]),
        names.TEMPERATURE: request.temperature,
        names.TOP_K: request.top_k,
        names.TOP_P: request.top_p,
        names.MIN_P: request.min_p,
        names.REPETITION_PENALTY: request.repetition_penalty,
        names.NO_REPEAT_NGRAM_SIZE: request.no_repeat_ngram_size,
        names.SEQUENCE_BIAS_IDS: request.biased_sequences[None],
        names.SEQUENCE_BIAS: request.biases[None],
        names.EOS_TOKEN_IDS: np.array([request.eos_token_ids or (-1,)]),
        names.STOP_SEQUENCES: request.stop_sequences[None],
        names.PAD_TOKEN_ID: np.array([request.pad_token_id]),
        names.RETURN_LOGPROBS: np.array([request.return_logprobs]),
        names.SEED: request.seed,
    }
