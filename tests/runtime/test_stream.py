"""Streams and time-outs: the tokens of one call, however they are asked for."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from signals import interrupted
from streams import PROMPTS, SETTINGS, joined

from gptloop import OnnxLoop, export


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@given(arguments=SETTINGS, block=st.integers(1, 25))
def test_the_pieces_of_a_stream_are_the_call(onnx, int8, precision, arguments, block):
    loop = onnx if precision == "fp32" else int8
    expected = loop.generate(PROMPTS, return_logprobs=True, **arguments)
    pieces = list(loop.stream(PROMPTS, block=block, return_logprobs=True, **arguments))
    assert [piece.tokens.shape[1] for piece in pieces[:-1]] == [block] * (len(pieces) - 1)
    for found, value in zip(joined(pieces), expected, strict=True):
        np.testing.assert_array_equal(found, value)
    tokens = joined(loop.stream(PROMPTS, block=block, **arguments))
    np.testing.assert_array_equal(tokens, expected.tokens)


@pytest.mark.parametrize("changed", ["input_ids", "attention_mask"])
def test_an_array_may_be_used_again_once_it_is_handed_over(onnx, changed):
    given = {"input_ids": np.array([[5, 7, 9], [3, 2, 1]]), "attention_mask": np.array([[1, 1, 1], [0, 1, 1]])}
    expected = onnx.generate(**given, max_new_tokens=12, seed=1)
    stream = onnx.stream(**given, max_new_tokens=12, seed=1, block=4)
    pieces = [next(stream)]
    given[changed][:] = 0
    np.testing.assert_array_equal(joined([*pieces, *stream]), expected)


def test_a_long_generation_crosses_many_blocks_of_steps(onnx):
    call = {"max_new_tokens": onnx.bounds.n_positions - 5, "num_return_sequences": 2, "seed": 1}
    expected = onnx.generate(PROMPTS, **call)
    for block in (1, 7, 16):
        np.testing.assert_array_equal(joined(onnx.stream(PROMPTS, block=block, **call)), expected)


# Ends


def test_a_closed_stream_computes_nothing_more(onnx, monkeypatch):
    stream = onnx.stream([[1, 2]], max_new_tokens=20, block=4)
    next(stream)
    stream.close()
    monkeypatch.setattr(onnx, "session", None)
    assert list(stream) == []


def test_nothing_is_computed_before_it_is_asked_for(onnx, monkeypatch):
    stream = onnx.stream([[1, 2]], max_new_tokens=20, block=4)
    monkeypatch.setattr(onnx, "session", None)
    with pytest.raises(AttributeError):
        next(stream)


def slow(onnx):
    return {
        "input_ids": [[1, 2]] * 64,
        "max_new_tokens": onnx.bounds.n_positions - 2,
        "num_return_sequences": 64,
        "top_k": 0,
    }


def test_a_call_ends_when_its_time_is_up_and_the_loop_stays_usable(onnx):
    expected = onnx.generate([[1, 2]], max_new_tokens=8)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the call was ended after timeout_s 0\.05"):
        onnx.generate(timeout_s=0.05, **slow(onnx))
    assert time.monotonic() - started < 2
    np.testing.assert_array_equal(onnx.generate([[1, 2]], max_new_tokens=8, timeout_s=60), expected)


def test_the_time_of_a_stream_counts_from_its_first_block(onnx):
    stream = onnx.stream([[1, 2]], max_new_tokens=20, block=4, timeout_s=0.5)
    time.sleep(0.6)
    next(stream)
    time.sleep(0.6)
    with pytest.raises(TimeoutError, match=r"timeout_s 0\.5"):
        next(stream)


@pytest.mark.signals
def test_an_interrupted_stream_can_be_gone_on_with(onnx):
    """What ends a block early leaves the state that was there before it."""
    call = {**slow(onnx), "seed": 1}
    expected = onnx.generate(**call)
    stream = onnx.stream(block=30, **call)
    pieces = [next(stream)]
    with pytest.raises(KeyboardInterrupt), interrupted(0.05):
        pieces += stream
    assert len(pieces) == 1
    pieces += stream
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), expected)


@pytest.mark.signals
@pytest.mark.parametrize("return_logprobs", [False, True])
def test_a_stream_interrupted_anywhere_hands_every_token_over_once(onnx, return_logprobs):
    call = {"input_ids": [[1, 2]] * 4, "max_new_tokens": 60, "seed": 1, "return_logprobs": return_logprobs}
    began = time.monotonic()
    expected = onnx.generate(**call)
    took_s, end = time.monotonic() - began, time.monotonic() + 5
    interruptions = 0
    for after, block in zip(itertools.cycle(np.random.default_rng(0).uniform(0, 5, 100)), itertools.cycle((1, 3, 16))):
        stream, pieces = onnx.stream(block=block, **call), []
        try:
            with interrupted(after * took_s):
                pieces += stream
        except KeyboardInterrupt:
            interruptions += 1
        pieces += stream
        for found, value in zip(joined(pieces), expected, strict=True):
            np.testing.assert_array_equal(found, value)
        if time.monotonic() > end:
            break
    assert interruptions


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"block": 1.5}, "block must be an integer, got 1.5"),
        ({"timeout_s": 0}, "timeout_s must be above 0 and at most"),
        ({"timeout_s": float("nan")}, "timeout_s must be"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_any_work(onnx, call, message):
    with pytest.raises(ValueError, match=message):
        onnx.stream([[1, 2]], **{"max_new_tokens": 4, **call})


def test_a_file_without_a_state_says_so(tiny, tmp_path):
    loop = OnnxLoop(export(tiny.model, tmp_path / "lean.onnx", flavor="lean"), device="cpu")
    for ask in (lambda: loop.stream([[1]], max_new_tokens=2), lambda: loop.prefill([[1]])):
        with pytest.raises(ValueError, match="needs a file whose generation has a state"):
            ask()


def test_steps_are_counted_on(onnx):
    """Blocks of one token, each a call: the uniform numbers are those of the steps, not of the calls."""
    singles = list(itertools.islice(onnx.stream([[1, 2]], max_new_tokens=12, block=1, seed=5), 12))
    np.testing.assert_array_equal(joined(singles), onnx.generate([[1, 2]], max_new_tokens=12, seed=5))
