"""A prompt alone and in a batch: the same bits, however much padding stands in front of it.

With heads as large as gpt2's, and prompts that attend in chunks and fill several blocks of ONNX Runtime's sums.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptloop import OnnxLoop, export

pytestmark = pytest.mark.usefixtures("one_torch_thread")

POSITIONS = 768
# Around what matters: products of one row take keys by four, others in blocks of 256, chunks have 64.
EDGES = [1, 2, 3, 4, 5, 63, 64, 65, 67, 127, 128, 129, 131, 255, 256, 257, 259, 319, 320, 321, 511, 513, 640]
LENGTHS = st.one_of(st.sampled_from(EDGES), st.integers(1, 700))


@pytest.fixture(scope="module", params=["int8", "fp32"])
def loop(request, tiny_model, tmp_path_factory):
    model = tiny_model(n_layer=2, n_head=2, n_embd=128, n_positions=POSITIONS)
    path = export(model, tmp_path_factory.mktemp("alone") / "model.onnx", precision=request.param)
    return OnnxLoop(path, device="cpu", threads=1)


@settings(max_examples=40)
@given(lengths=st.lists(LENGTHS, min_size=2, max_size=5), candidates=st.integers(1, 3), seed=st.integers(0, 2**32))
@example(lengths=[700, 1, 2, 3, 4, 5], candidates=1, seed=0)
@example(lengths=[700, 695, 567, 443, 259, 131], candidates=1, seed=1)
@example(lengths=[700, 640, 513, 385, 257, 129], candidates=2, seed=2)
@example(lengths=[8, 7, 3, 1], candidates=4, seed=3)
def test_a_prompt_alone_and_in_a_ragged_batch_has_the_same_bits(loop, lengths, candidates, seed):
    rng = np.random.default_rng(seed)
    P = max(lengths)
    ids = rng.integers(0, 97, (len(lengths), P))  # at padding, too
    mask = (np.arange(P) >= P - np.array(lengths)[:, None]).astype(np.int64)
    call = {"max_new_tokens": 20, "num_return_sequences": candidates, "temperature": 1.5, "return_logprobs": True}
    together = loop.generate(ids, attention_mask=mask, seed=range(7, 7 + len(lengths)), **call)
    for number, length in enumerate(lengths):
        alone = loop.generate(ids[number : number + 1, P - length :], seed=7 + number, **call)
        rows = slice(number * candidates, (number + 1) * candidates)
        for name in ("tokens", "logprobs", "raw_logprobs"):
            np.testing.assert_array_equal(getattr(together, name)[rows], getattr(alone, name), err_msg=name)


SAMPLED = {
    "temperature": st.sampled_from([0, 0.5, 1, 2]),
    "top_k": st.sampled_from([0, 1, 5, 50, 97]),
    "top_p": st.sampled_from([0.3, 0.9, 1]),
    "min_p": st.sampled_from([0, 0.1]),
    "repetition_penalty": st.sampled_from([1, 1.3]),
    "no_repeat_ngram_size": st.sampled_from([0, 2]),
}


@settings(max_examples=15)
@given(
    prompts=st.lists(st.tuples(st.integers(1, 70), st.fixed_dictionaries(SAMPLED)), min_size=2, max_size=5),
    candidates=st.integers(1, 3),
    seed=st.integers(0, 2**32),
)
def test_beside_others_with_settings_of_their_own_a_prompt_has_the_same_tokens(loop, prompts, candidates, seed):
    """The draws of all run over the vocabulary if one does: other sums, with other last bits."""
    lengths = [length for length, _ in prompts]
    rng = np.random.default_rng(seed)
    P = max(lengths)
    ids = rng.integers(0, 97, (len(lengths), P))
    mask = (np.arange(P) >= P - np.array(lengths)[:, None]).astype(np.int64)
    call = {"max_new_tokens": 8, "num_return_sequences": candidates, "return_logprobs": True}
    each = {name: [own[name] for _, own in prompts] for name in SAMPLED}
    together = loop.generate(ids, attention_mask=mask, seed=range(7, 7 + len(lengths)), **call, **each)
    for number, (length, own) in enumerate(prompts):
        alone = loop.generate(ids[number : number + 1, P - length :], seed=7 + number, **call, **own)
        rows = slice(number * candidates, (number + 1) * candidates)
        for name in ("tokens", "raw_logprobs"):
            np.testing.assert_array_equal(getattr(together, name)[rows], getattr(alone, name), err_msg=name)
        # Of a probability's sum of 97 terms; 5e-7 was seen.
        np.testing.assert_allclose(together.logprobs[rows], alone.logprobs, rtol=0, atol=5e-6)
