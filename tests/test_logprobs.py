"""Log-probabilities and seeds, and both loops on any settings at once."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hugging_face import LOGPROB_TOLERANCE, V, hugging_face_processors, left_padded, prompts
from hypothesis import given
from hypothesis import strategies as st

from gptloop import OnnxLoop, TorchLoop, export
from gptloop.reference.parity import Judge
from gptloop.runtime.request import check_request
from gptloop.runtime.threefry import uniforms


@pytest.fixture(scope="module", params=["onnx", "torch"])
def loop(request, tiny):
    return getattr(tiny, request.param)


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

    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_where_all_logits_are_far_below_0_and_the_first_token_is_forbidden(self, tiny_model, tmp_path, precision):
        """Published checkpoints have logits of -30 to -130, depending on the text."""
        model = tiny_model(tie_word_embeddings=False)
        with torch.no_grad():
            model.transformer.ln_f.bias.fill_(1.0)
            rows = model.lm_head.weight
            rows -= rows.mean(1, keepdim=True) + 150 / rows.shape[1]
        onnx = OnnxLoop(export(model, tmp_path / "low.onnx", precision=precision), device="cpu")
        call = {"max_new_tokens": 6, "suppress_tokens": [0], "return_logprobs": True, "temperature": [0, 0, 1.0]}
        found, expected = (loop.generate(prompts(3, 5), **call, seed=1) for loop in (onnx, TorchLoop(model)))
        assert np.isfinite([found.logprobs, found.raw_logprobs]).all()
        assert (found.logprobs < 0).all()
        if precision == "fp32":
            np.testing.assert_array_equal(found.tokens, expected.tokens)
            np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=LOGPROB_TOLERANCE)

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
