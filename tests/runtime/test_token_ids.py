"""Sequences of token ids and biases of them: what a call refuses, by name, value and bound, and what the graph gets."""

import re

import numpy as np
import pytest

from gptloop.runtime.token_ids import padded

pytestmark = pytest.mark.usefixtures("one_torch_thread")
ONE = [[1, 2, 3]]

# What is wrong: the call, and what the message has to name.
BAD_CALLS = {
    # n-grams and biases
    "n-grams of -1": (ONE, {"no_repeat_ngram_size": -1}, ["no_repeat_ngram_size", "at least 0", "-1"]),
    "n-grams of 1.5": (ONE, {"no_repeat_ngram_size": 1.5}, ["no_repeat_ngram_size", "integer", "1.5"]),
    "2 n-gram sizes for 1 prompt": (ONE, {"no_repeat_ngram_size": [1, 2]}, ["no_repeat_ngram_size", "(1)", "[2]"]),
    "suppress_tokens V": (ONE, {"suppress_tokens": [97]}, ["suppress_tokens", "0..96", "97"]),
    "suppress_tokens in 2 dimensions": (ONE, {"suppress_tokens": [[1]]}, ["suppress_tokens", "sequence of ids"]),
    "suppress_tokens of all": (ONE, {"suppress_tokens": range(97)}, ["suppress_tokens", "leave a token", "97"]),
    "all forbidden but the end": (
        ONE,
        {"suppress_tokens": range(96), "eos_token_id": 96, "min_new_tokens": 1},
        ["eos_token_id", "leave a token", "min_new_tokens 1", "97"],
    ),
    "bad words of V": (ONE, {"bad_words_ids": [[1, 97]]}, ["bad_words_ids", "0..96", "97"]),
    "a bad word of no ids": (ONE, {"bad_words_ids": [[1], []]}, ["bad_words_ids", "at least 1 token id", "[]"]),
    "bad words as text": (ONE, {"bad_words_ids": ["bad"]}, ["bad_words_ids", "integer", "bad"]),
    "a bias of nan": (ONE, {"sequence_bias": {(1,): float("nan")}}, ["sequence_bias", "-inf", "nan"]),
    "a bias of inf": (ONE, {"sequence_bias": {(1,): float("inf")}}, ["sequence_bias", "1e+09", "inf"]),
    "a bias of 2e9": (ONE, {"sequence_bias": {(1,): 2e9}}, ["sequence_bias", "1e+09", "2000000000"]),
    "a bias of letters": (ONE, {"sequence_bias": {(1,): "x"}}, ["sequence_bias", "number", "x"]),
    "a bias of no ids": (ONE, {"sequence_bias": {(): 1.0}}, ["sequence_bias", "at least 1 token id"]),
    "a bias of an id": (ONE, {"sequence_bias": {5: 1.0}}, ["sequence_bias", "map sequences of ids"]),
    "a bias of V": (ONE, {"sequence_bias": [([97], 1.0)]}, ["sequence_bias", "0..96", "97"]),
    "biases that are a number": (ONE, {"sequence_bias": 1.0}, ["sequence_bias", "map sequences of ids", "1.0"]),
    "biases that are an array's number": (ONE, {"sequence_bias": np.array(1)}, ["sequence_bias", "map", "array(1)"]),
    "biases as a set": (ONE, {"sequence_bias": {1}}, ["sequence_bias", "map sequences of ids", "{1}"]),
    # stop sequences
    "no stop sequence": (ONE, {"stop_sequences": []}, ["stop_sequences", "at least 1 token id", "[]"]),
    "an empty stop sequence": (ONE, {"stop_sequences": [[1], []]}, ["stop_sequences", "at least 1 token id", "[]"]),
    "a stop sequence of V": (ONE, {"stop_sequences": [[1, 2], [97]]}, ["stop_sequences", "0..96", "97"]),
    "a stop sequence below 0": (ONE, {"stop_sequences": [3, -1]}, ["stop_sequences", "at least 0", "-1"]),
    "a stop sequence as text": (ONE, {"stop_sequences": "stop"}, ["stop_sequences", "sequence of ids", "stop"]),
    "a stop sequence that is an id": (ONE, {"stop_sequences": 3}, ["stop_sequences", "sequence of ids", "3"]),
    "stop sequences of floats": (ONE, {"stop_sequences": [[1.0]]}, ["stop_sequences", "integer", "1.0"]),
    "ids and sequences mixed": (ONE, {"stop_sequences": [[1], 2]}, ["stop_sequences", "integer", "[1]"]),
}


@pytest.mark.parametrize(("input_ids", "call", "named"), BAD_CALLS.values(), ids=list(BAD_CALLS))
def test_a_bad_call_is_refused_with_the_value_and_the_bound(idle_loop, input_ids, call, named):
    with pytest.raises(ValueError, match=re.escape(named[0])) as error:
        idle_loop.generate(input_ids, **{"max_new_tokens": 4, **call})
    assert [word for word in named if word not in str(error.value)] == []


@pytest.mark.parametrize(
    "call",
    [
        {"suppress_tokens": []},
        {"suppress_tokens": np.array([5, 6], np.int32)},
        {"suppress_tokens": range(96)},
        {"bad_words_ids": np.array([[5, 6], [7, 8]])},
        {"sequence_bias": {(5,): -1e9, (6,): 1e9}},
        {"sequence_bias": [[[5, 6], np.float32(2)], ((7,), 3)]},
        {"sequence_bias": {}},
        {"no_repeat_ngram_size": 2**63 - 1},
        {"stop_sequences": [[96] * 80]},
    ],
    ids=str,
)
def test_a_value_on_its_bound_or_of_numpys_types_is_taken(tiny, call):
    tokens = tiny.onnx.generate(ONE, max_new_tokens=5, **call)
    np.testing.assert_array_equal(tiny.torch.generate(ONE, max_new_tokens=5, **call), tokens)


def test_the_graph_gets_them_padded_on_the_left():
    np.testing.assert_array_equal(padded([(5,), (6, 7, 8)]), [[-1, -1, 5], [6, 7, 8]])
    np.testing.assert_array_equal(padded([]), [[-1]])
