"""Prompts of more tokens than a chunk of the prefill has."""

from __future__ import annotations

import numpy as np
import pytest
from calls import CALL, LOGPROB_TOLERANCE, RUNTIMES, assert_close, random_ids

from gptloop import names
from gptloop.graph.prompt_attention import CHUNK

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_chunks_have_the_tokens_of_another_runtime(open_model, runtime, length):
    ids = random_ids(2, length)
    mask = np.ones_like(ids)
    mask[1, :60] = 0
    call = {"attention_mask": mask, "max_new_tokens": 3, "num_return_sequences": 2}
    assert_close(open_model("fp32", runtime).call(ids, **call), open_model("fp32").call(ids, **call), "fp32")


@pytest.mark.parametrize("length", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 1])
def test_long_prompts_have_the_tokens_of_torch(open_model, open_tiny, length):
    """Whose attention is in one piece at any length."""
    ids = random_ids(2, length)
    mask = np.ones_like(ids)
    mask[1, : length // 2] = 0
    call = {"attention_mask": mask, "max_new_tokens": 6, "num_return_sequences": 2}
    found = open_model("fp32").call(ids, **call)
    expected = open_tiny(n_positions=8 * CHUNK).torch.generate(ids, **CALL | call)
    np.testing.assert_array_equal(found[names.SEQUENCES].reshape(4, 6), expected.tokens)
    np.testing.assert_allclose(
        found[names.RAW_LOGPROBS].reshape(4, 6), expected.raw_logprobs, rtol=0, atol=LOGPROB_TOLERANCE["fp32"]
    )
