"""Calls for streams and prefixes, and a stream's blocks as one."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gptloop.runtime.loop import Generation

PROMPTS = [[3, 14, 15, 92, 65], [35, 89, 79, 32, 38]]
MASK = [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


def joined(pieces):
    """The blocks of a stream as one: tokens, or a Generation."""
    pieces = list(pieces)
    if isinstance(pieces[0], Generation):
        return Generation(
            *(np.concatenate(parts, axis=1) for parts in list(zip(*pieces, strict=True))[:3]), pieces[0].seed
        )
    return np.concatenate(pieces, axis=1)


SETTINGS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 1.0]),
        "top_k": st.sampled_from([0, 5]),
        "num_return_sequences": st.integers(1, 3),
        "max_new_tokens": st.integers(1, 20),
        "seed": st.integers(0, 5),
        "attention_mask": st.sampled_from([None, MASK]),
        "eos_token_id": st.sampled_from([None, list(range(0, 97, 7))]),
        "stop_sequences": st.sampled_from([None, [list(range(5)), [8]]]),
        "repetition_penalty": st.sampled_from([1.0, 1.5]),
        "no_repeat_ngram_size": st.sampled_from([0, 2]),
        "first_candidate": st.sampled_from([0, 7]),
    },
    optional={"min_new_tokens": st.just(1)},
)
