"""Generation as people use it: padding, end of text, cuts, penalties, log-probabilities, seeds.

Hugging Face's generate, its logits processors and compute_transition_scores are the oracle; both loops are held to it,
and to each other.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hugging_face import V, hugging_face, hugging_face_processors, left_padded, prompts
from hypothesis import given
from hypothesis import strategies as st

from gptloop.runtime.threefry import uniforms


@pytest.fixture(scope="module", params=["onnx", "torch"])
def loop(request, tiny):
    return getattr(tiny, request.param)


RAGGED = [[5, 17, 33, 2, 61], [8], [44, 90, 12]]


class TestPadding:
    @pytest.mark.parametrize(
        "sampling", [{"temperature": 0}, {"temperature": 1.3, "top_k": 20}], ids=["greedy", "sampled"]
    )
    def test_a_padded_prompt_gives_the_tokens_of_the_prompt_alone(self, loop, sampling):
        ids, mask = left_padded(RAGGED, pad=7)
        seeds = [11, 12, 13]
        arguments = {"max_new_tokens": 9, "num_return_sequences": 2, **sampling}
        together = loop.generate(ids, attention_mask=mask, seed=seeds, **arguments)
        alone = [loop.generate([row], seed=seed, **arguments) for row, seed in zip(RAGGED, seeds, strict=True)]
        np.testing.assert_array_equal(together, np.concatenate(alone))

    def test_what_stands_under_padding_does_not_matter(self, loop):
        (ids, mask), (other_ids, _) = left_padded(RAGGED, pad=0), left_padded(RAGGED, pad=96)
        arguments = {"attention_mask": mask, "max_new_tokens": 8, "repetition_penalty": 1.5}
        np.testing.assert_array_equal(loop.generate(ids, **arguments), loop.generate(other_ids, **arguments))

    def test_greedy_tokens_of_a_padded_batch_are_hugging_faces(self, tiny, loop):
        ids, mask = left_padded(RAGGED)
        expected = hugging_face(tiny, ids, attention_mask=torch.as_tensor(mask), max_new_tokens=9)
        found = loop.generate(ids, attention_mask=mask, max_new_tokens=9, temperature=0)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            ([[1, 1, 0]], ["left", "row 0"]),
            ([[0, 1, 0]], ["left", "row 0"]),
            ([[0, 0, 0]], ["at least 1 token", "row 0"]),
            ([[1, 1]], ["shape", "[1, 3]", "[1, 2]"]),
            ([[1, 2, 1]], ["0 or 1", "2"]),
        ],
        ids=["right", "hole", "empty", "shape", "values"],
    )
    def test_a_mask_that_is_no_left_padding_is_refused(self, loop, mask, words):
        with pytest.raises(ValueError, match="attention_mask") as caught:
            loop.generate([[1, 2, 3]], attention_mask=mask, max_new_tokens=2)
        assert all(word in str(caught.value) for word in words)


class TestEndOfText:
    @pytest.mark.parametrize("ends", [1, 3])
    @pytest.mark.parametrize("min_new_tokens", [0, 6])
    def test_greedy_tokens_and_length_are_hugging_faces(self, tiny, loop, ends, min_new_tokens):
        ids = prompts(4, 5)
        free = hugging_face(tiny, ids, max_new_tokens=14)
        eos = [int(token) for token in free[:ends, 2]]
        arguments = {"max_new_tokens": 14, "min_new_tokens": min_new_tokens, "eos_token_id": eos, "pad_token_id": 96}
        expected = hugging_face(tiny, ids, **arguments)
        found = loop.generate(ids, temperature=0, **arguments)
        np.testing.assert_array_equal(found, expected)
        assert (found != free[:, : found.shape[1]]).any()  # the end, or its delay, changed something

    def test_the_result_is_as_long_as_its_longest_row(self, loop):
        ids = prompts(1, 5)
        free = loop.generate(ids, max_new_tokens=30, temperature=0)
        end = int(free[0, 3])
        first = int(np.flatnonzero(free[0] == end)[0])
        found = loop.generate(ids, max_new_tokens=30, temperature=0, eos_token_id=end)
        np.testing.assert_array_equal(found, free[:, : first + 1])

    def test_rows_that_ended_are_padded_with_the_first_end_unless_told_otherwise(self, loop):
        ids = prompts(3, 4)
        free = loop.generate(ids, max_new_tokens=12)
        ends = [int(free[0, 2]), int(free[1, 5])]
        found = loop.generate(ids, max_new_tokens=12, eos_token_id=ends)
        other = loop.generate(ids, max_new_tokens=12, eos_token_id=ends, pad_token_id=50)
        for row in range(3):
            stops = np.flatnonzero(np.isin(free[row], ends))
            length = int(stops[0]) + 1 if len(stops) else 12
            np.testing.assert_array_equal(found[row, :length], free[row, :length])
            assert set(found[row, length:]) <= {ends[0]}
            assert set(other[row, length:]) <= {50}
        assert (found == ends[0]).sum() > 1

    def test_no_end_comes_before_min_new_tokens(self, loop):
        ends = list(range(0, V, 2))
        tokens = loop.generate(
            prompts(4, 3),
            max_new_tokens=10,
            min_new_tokens=4,
            eos_token_id=ends,
            num_return_sequences=4,
            pad_token_id=1,
        )
        assert not np.isin(tokens[:, :4], ends).any()
        assert np.isin(tokens[:, 4:], ends).any()


@given(
    seed=st.integers(0, 2**31),
    temperature=st.sampled_from([0.5, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 7, 40, V]),
    top_p=st.sampled_from([0.05, 0.6, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.02, 0.4, 1.0]),
    penalty=st.sampled_from([1.0, 0.7, 1.8]),
)
def test_the_drawn_token_is_the_one_that_hugging_faces_distribution_gives(
    tiny, seed, temperature, top_k, top_p, min_p, penalty
):
    """The token of a step, computed from Hugging Face's own logits and processors in float64, is both loops' token.

    So order and meaning of all settings are Hugging Face's. A uniform number within 1e-5 of a boundary proves nothing
    in float32, and is passed over.
    """
    ids = prompts(3, 6, seed)
    processors = hugging_face_processors(
        penalty=penalty, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p
    )
    with torch.inference_mode():
        logits = tiny.model(torch.as_tensor(ids)).logits[:, -1].double()
    probs = processors(torch.as_tensor(ids), logits).softmax(-1).numpy()
    numbers = uniforms(np.arange(seed, seed + 3), 4, 1)[:, :, 0]  # [B, R]
    arguments = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "seed": seed}
    for loop in (tiny.onnx, tiny.torch):
        found = loop.generate(
            ids, max_new_tokens=1, num_return_sequences=4, repetition_penalty=penalty, **arguments
        ).reshape(3, 4)
        for prompt, candidate in np.ndindex(3, 4):
            sums = np.cumsum(probs[prompt])
            if np.abs(sums - numbers[prompt, candidate]).min() > 1e-5:
                assert found[prompt, candidate] == np.searchsorted(sums, numbers[prompt, candidate], side="right")
