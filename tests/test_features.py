"""Generation as people use it: padding, end of text, cuts, penalties, log-probabilities, seeds.

Hugging Face's generate, its logits processors and compute_transition_scores are the oracle; both loops are held to it,
and to each other.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gptloop.reference.parity import Judge
from gptloop.runtime.request import check_request
from gptloop.runtime.threefry import uniforms

V = 97
# Log-probabilities are sums of a few float32 numbers near 10 in magnitude, whose last bit is 1e-6.
LOGPROB_TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["onnx", "torch"])
def loop(request, tiny):
    return getattr(tiny, request.param)


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


class TestLogprobs:
    @pytest.mark.parametrize("penalty", [1.0, 1.6])
    def test_of_greedy_tokens_are_hugging_faces_transition_scores(self, tiny, loop, penalty):
        ids = prompts(3, 5)
        tiny.model.generation_config.eos_token_id = None
        output = tiny.model.generate(
            torch.as_tensor(ids),
            attention_mask=torch.ones(3, 5, dtype=torch.int64),
            do_sample=False,
            max_new_tokens=8,
            pad_token_id=0,
            repetition_penalty=penalty,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
        )
        expected = tiny.model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
        expected_raw = tiny.model.compute_transition_scores(output.sequences, output.logits, normalize_logits=True)
        found = loop.generate(ids, max_new_tokens=8, temperature=0, repetition_penalty=penalty, return_logprobs=True)
        np.testing.assert_array_equal(found.tokens, output.sequences[:, 5:])
        np.testing.assert_allclose(found.logprobs, expected, atol=LOGPROB_TOLERANCE)
        np.testing.assert_allclose(found.raw_logprobs, expected_raw, atol=LOGPROB_TOLERANCE)

    def test_of_sampled_tokens_are_those_of_hugging_faces_processors(self, tiny, loop):
        ids, settings = prompts(3, 5), {"temperature": 1.4, "top_k": 30, "top_p": 0.9, "min_p": 0.01}
        found = loop.generate(
            ids, max_new_tokens=7, num_return_sequences=2, repetition_penalty=1.3, return_logprobs=True, **settings
        )
        texts = torch.as_tensor(np.concatenate([np.repeat(ids, 2, 0), found.tokens], 1))
        with torch.inference_mode():
            logits = tiny.model(texts).logits[:, 4:-1]  # [S, N, V]
        processors = hugging_face_processors(penalty=1.3, **settings)
        for step in range(7):
            token = texts[:, 5 + step, None]
            scores = processors(texts[:, : 5 + step], logits[:, step].clone()).log_softmax(-1).gather(1, token)
            raw = logits[:, step].log_softmax(-1).gather(1, token)
            np.testing.assert_allclose(found.logprobs[:, step], scores[:, 0], atol=LOGPROB_TOLERANCE)
            np.testing.assert_allclose(found.raw_logprobs[:, step], raw[:, 0], atol=LOGPROB_TOLERANCE)

    def test_are_0_after_the_end_of_a_row_and_only_there(self, loop):
        ids = prompts(3, 4)
        free = loop.generate(ids, max_new_tokens=12, top_k=0)
        ends = [int(free[0, 2])]
        found = loop.generate(ids, max_new_tokens=12, top_k=0, eos_token_id=ends, return_logprobs=True)
        for row in range(3):
            stops = np.flatnonzero(free[row] == ends[0])
            length = int(stops[0]) + 1 if len(stops) else 12
            for logprobs in (found.logprobs, found.raw_logprobs):
                assert (logprobs[row, :length] < 0).all()
                assert (logprobs[row, length:] == 0).all()

    def test_do_not_change_the_tokens(self, loop):
        ids = prompts(2, 4)
        plain = loop.generate(ids, max_new_tokens=9, num_return_sequences=3)
        assert isinstance(plain, np.ndarray)
        found = loop.generate(ids, max_new_tokens=9, num_return_sequences=3, return_logprobs=True)
        np.testing.assert_array_equal(found.tokens, plain)


class TestSeeds:
    def test_none_draws_fresh_ones_that_give_the_tokens_again(self, loop):
        ids = prompts(2, 4)
        first, second = (
            loop.generate(ids, max_new_tokens=20, top_k=0, seed=None, return_logprobs=True) for _ in range(2)
        )
        assert len({*first.seed, *second.seed}) == 4
        again = loop.generate(ids, max_new_tokens=20, top_k=0, seed=first.seed)
        np.testing.assert_array_equal(again, first.tokens)
        assert (first.tokens != second.tokens).any()

    def test_prompts_candidates_and_steps_are_independent(self):
        """No two of 4 x 8 x 64 numbers agree beyond what 2,048 draws of 24 bits make likely (0.1 pairs)."""
        numbers = uniforms(np.array([0, 1, 2**62, 2**63 - 1]), 8, 64)
        assert len(np.unique(numbers)) >= numbers.size - 2
        lags = [np.corrcoef(numbers.reshape(-1)[:-lag], numbers.reshape(-1)[lag:])[0, 1] for lag in (1, 64, 512)]
        assert np.abs(lags).max() < 4 / np.sqrt(numbers.size)


@given(data=st.data())
def test_both_loops_agree_whatever_the_settings(tiny, data):
    draw = data.draw
    B, P = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    per_prompt = lambda values: st.one_of(values, st.lists(values, min_size=B, max_size=B))  # noqa: E731
    ids = prompts(B, P, draw(st.integers(0, 99)))
    _, mask = left_padded([[0] * draw(st.integers(1, P)) for _ in range(B)] + [[0] * P])
    new_tokens = draw(st.integers(1, 14))
    arguments = {
        "attention_mask": mask[:B],
        "max_new_tokens": new_tokens,
        "min_new_tokens": draw(st.integers(0, new_tokens)),
        "num_return_sequences": draw(st.integers(1, 3)),
        "temperature": draw(per_prompt(st.sampled_from([0.0, 0.5, 1.0, 2.0]))),
        "top_k": draw(per_prompt(st.sampled_from([0, 1, 5, 50, V]))),
        "top_p": draw(per_prompt(st.sampled_from([0.1, 0.5, 0.9, 1.0]))),
        "min_p": draw(st.sampled_from([0.0, 0.05, 0.3])),
        "repetition_penalty": draw(st.sampled_from([1.0, 1.3, 0.8])),
        "eos_token_id": draw(st.one_of(st.none(), st.lists(st.integers(0, V - 1), min_size=1, max_size=9))),
        "seed": draw(st.integers(0, 2**62)),
    }
    expected = tiny.torch.generate(ids, return_logprobs=True, **arguments)
    found = tiny.onnx.generate(ids, return_logprobs=True, **arguments)
    bounds = SimpleNamespace(vocab_size=V, n_positions=64)
    parity = Judge(tiny.model).check(check_request(bounds, ids, **arguments), expected.tokens, found.tokens)
    if parity.excused_rows == 0:
        np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=LOGPROB_TOLERANCE)
        np.testing.assert_allclose(found.raw_logprobs, expected.raw_logprobs, atol=LOGPROB_TOLERANCE)
