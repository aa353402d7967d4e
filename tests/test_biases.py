"""Biases, forbidden tokens and n-grams in whole generations: greedy, they are Hugging Face's tokens."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hugging_face import V, hugging_face, prompts
from hypothesis import given
from hypothesis import strategies as st
from other_runtimes import OpenVinoLoop, ReferenceLoop, openvino_is_installed

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ids = st.integers(0, V - 1)


@pytest.fixture(scope="module", params=["onnx", "torch"])
def loop(request, tiny):
    return getattr(tiny, request.param)


@pytest.fixture(scope="module", params=[ReferenceLoop, pytest.param(OpenVinoLoop, marks=openvino_is_installed)])
def other(tiny, request):
    return request.param(tiny.path, tiny.model.config)


def sequences_of(free: np.ndarray, spans: list[tuple[int, int, int]]) -> list[list[int]]:
    """Such that the rows would generate."""
    return [free[row, at : at + length].tolist() for row, at, length in spans]


spans = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 14), st.integers(1, 3)), min_size=1, max_size=4)


@given(data=st.data())
def test_greedy_tokens_are_hugging_faces(tiny, loop, data):
    """Of what the rows, prompts included, would generate without; one setting for all rows, as Hugging Face has it."""
    draw = data.draw
    input_ids = prompts(2, 4, draw(st.integers(0, 9)))
    free = np.concatenate([input_ids, hugging_face(tiny, input_ids, max_new_tokens=12)], 1)
    eos = draw(st.none() | st.just([5, 60]))
    numbers = st.sampled_from([-inf, -30.0, 4.0])
    biases = {tuple(s): draw(numbers) for s in sequences_of(free, draw(spans))}
    settings = {
        "no_repeat_ngram_size": draw(st.sampled_from([0, 1, 2, 3])),
        "repetition_penalty": draw(st.sampled_from([1.0, 1.3])),
        "sequence_bias": draw(st.none() | st.just(biases)),
        "bad_words_ids": draw(st.none() | st.just([*sequences_of(free, draw(spans)), [5]])),
        "suppress_tokens": draw(st.none() | st.lists(ids, min_size=1, max_size=9)),
        "min_new_tokens": draw(st.sampled_from([0, 4])),
        "eos_token_id": eos,
        "max_new_tokens": 12,
        "pad_token_id": 0,
    }
    given_ = {name: value for name, value in settings.items() if value}
    expected = hugging_face(tiny, input_ids, **{**given_, "pad_token_id": 0})
    np.testing.assert_array_equal(loop.generate(input_ids, temperature=0, **settings), expected)


@given(data=st.data())
def test_every_runtime_gives_the_same_tokens(tiny, other, data):
    """ONNX Runtime, the PyTorch loop and another runtime, sampled and greedy."""
    draw = data.draw
    B = draw(st.integers(1, 3))
    input_ids = prompts(B, draw(st.integers(1, 5)), draw(st.integers(0, 99)))
    call = {"max_new_tokens": 9, "num_return_sequences": draw(st.integers(1, 2)), "seed": draw(st.integers(0, 99))}
    free = tiny.onnx.generate(input_ids, **call)
    own = sequences_of(free, [(0, at, length) for _, at, length in draw(spans) if at < 9])
    per_prompt = lambda *values: draw(st.lists(st.sampled_from(values), min_size=B, max_size=B))  # noqa: E731
    biases = {tuple(s): draw(st.sampled_from([-inf, 9.0])) for s in own or [[3]]}
    settings = {
        "temperature": per_prompt(0.0, 0.7, 1.5),
        "min_p": per_prompt(0.0, 0.05),
        "repetition_penalty": per_prompt(1.0, 1.4),
        "no_repeat_ngram_size": per_prompt(0, 1, 2),
        "sequence_bias": draw(st.none() | st.just(biases)),
        "bad_words_ids": draw(st.none() | st.just(own or None)),
        "suppress_tokens": draw(st.lists(ids, max_size=9)),
        "stop_sequences": draw(st.none() | st.just([*own, [7, 9], [30]])),
        "eos_token_id": draw(st.none() | st.just([5, 60])),
        "pad_token_id": 96,
    }
    expected = tiny.onnx.generate(input_ids, **call, **settings)
    np.testing.assert_array_equal(tiny.torch.generate(input_ids, **call, **settings), expected)
    np.testing.assert_array_equal(other.generate(input_ids, **call, **settings), expected)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_n_gram_comes_twice_in_a_row(loop, size):
    input_ids = prompts(2, 6)
    call = {"max_new_tokens": 40, "num_return_sequences": 2, "top_k": 2, "temperature": 0.1}
    rows = np.concatenate([np.repeat(input_ids, 2, 0), loop.generate(input_ids, no_repeat_ngram_size=size, **call)], 1)
    for row in rows.tolist():
        generated = [tuple(row[at - size : at]) for at in range(7, 47)]
        before = [{tuple(row[i : i + size]) for i in range(at - size)} for at in range(7, 47)]
        assert not [ngram for ngram, had in zip(generated, before, strict=True) if ngram in had]


def test_each_prompt_has_its_own(loop):
    """Two prompts of one batch give what each gives alone."""
    input_ids = prompts(3, 5)
    own = {"min_p": [0.0, 0.3, 0.05], "repetition_penalty": [1.0, 1.9, 0.6], "no_repeat_ngram_size": [2, 0, 1]}
    call = {"max_new_tokens": 12, "num_return_sequences": 2}
    together = loop.generate(input_ids, seed=[4, 5, 6], **own, **call)
    for prompt in range(3):
        alone = {name: values[prompt] for name, values in own.items()}
        expected = loop.generate(input_ids[[prompt]], seed=4 + prompt, **alone, **call)
        np.testing.assert_array_equal(together[2 * prompt : 2 * prompt + 2], expected)
    assert len({tuple(row) for row in together.tolist()}) == 6


def test_what_is_forbidden_is_not_drawn_even_where_little_is_left(loop):
    """Below top_k, and down to one token."""
    for left in ([3, 50], [96]):
        forbidden = sorted({*range(V)} - {*left})
        found = loop.generate(prompts(2, 4), max_new_tokens=9, num_return_sequences=4, suppress_tokens=forbidden)
        assert set(found.ravel()) == set(left)


def test_where_n_grams_leave_nothing_the_lowest_id_follows(open_tiny):
    """Hugging Face's multinomial fails there."""
    small = open_tiny(n_layer=1, vocab_size=3)
    for call in ({}, {"top_k": 0}, {"temperature": 0}):
        for one in (small.onnx, small.torch):
            tokens = one.generate([[1]], max_new_tokens=7, no_repeat_ngram_size=1, **call)
            assert {*tokens[0, :2]} == {0, 2}
            assert (tokens[0, 2:] == 0).all()
