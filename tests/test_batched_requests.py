"""Requests with settings of their own, put into one batch by concatenating their inputs, as a server's batcher does.

Each gets what it gets alone, and padding in the place of what only others asked for.
"""

from __future__ import annotations

import numpy as np
import pytest
from other_runtimes import OUTPUTS, OpenVinoLoop, ReferenceLoop, openvino_is_installed

from gptloop import names
from gptloop.graph.model import INPUTS
from gptloop.runtime.feeds import feeds

pytestmark = pytest.mark.usefixtures("one_torch_thread")

LOGPROB_TOLERANCE = 5e-5  # that of tests/test_runtimes.py
ENDS = list(range(30))
PAD = 96

# One prompt each, of equal lengths, as a batcher joins no others.
REQUESTS = {
    "plain": {"max_new_tokens": 9},
    "one token": {"max_new_tokens": 1, "temperature": 0.7},
    "candidates": {"max_new_tokens": 5, "num_return_sequences": 4, "top_k": 0},
    "later candidates": {"max_new_tokens": 5, "num_return_sequences": 2, "first_candidate": 7, "top_p": 0.8},
    "greedy": {"max_new_tokens": 12, "temperature": 0},
    "ends": {"max_new_tokens": 12, "eos_token_id": ENDS, "pad_token_id": PAD},
    "ends late": {"max_new_tokens": 12, "eos_token_id": ENDS, "min_new_tokens": 6, "pad_token_id": 3},
    "one end": {"max_new_tokens": 8, "eos_token_id": 40, "min_new_tokens": 2, "temperature": 3.0},
    "scored": {"max_new_tokens": 7, "return_logprobs": True, "num_return_sequences": 2},
    "min_p": {"max_new_tokens": 6, "min_p": 0.1},
    "min_p of the whole vocabulary": {"max_new_tokens": 6, "min_p": 0.02, "top_k": 0},
    "penalized": {"max_new_tokens": 10, "repetition_penalty": 1.5, "temperature": 0},
    "stopped": {"max_new_tokens": 10, "stop_sequences": [[n] for n in range(20)] + [[1, 2, 3]]},
    "biased": {"max_new_tokens": 8, "sequence_bias": {(5,): 40.0, (5, 5): -40.0, (1, 2): 3.0}},
    "no word twice": {"max_new_tokens": 12, "no_repeat_ngram_size": 1, "temperature": 0},
    "padded": {"max_new_tokens": 6, "attention_mask": [[0, 0, 1, 1, 1]], "top_k": 3},
}


class OnnxRuntime:
    def __init__(self, tiny):
        self._session = tiny.onnx.session

    def run(self, inputs):
        return self._session.run(OUTPUTS, inputs)


class Reference:
    def __init__(self, tiny):
        self._evaluator = ReferenceLoop(tiny.path, tiny.model.config)._evaluator

    def run(self, inputs):
        return self._evaluator.run(OUTPUTS, inputs)


class OpenVino:
    def __init__(self, tiny):
        self._model = OpenVinoLoop(tiny.path, tiny.model.config)._model

    def run(self, inputs):
        outputs = self._model(inputs)
        return [outputs[name] for name in OUTPUTS]


def checked(loop):
    """The requests by name, each with a prompt and a seed of its own."""
    ids = np.random.default_rng(5).integers(0, 96, (len(REQUESTS), 1, 5))
    return {
        name: loop.check(prompt, seed=3 * number, **settings)
        for number, (prompt, (name, settings)) in enumerate(zip(ids, REQUESTS.items(), strict=True))
    }


def joined(requests):
    """The graph's inputs of all of them, concatenated along the first axis."""
    inputs = [feeds(request) for request in requests]
    return {name: np.concatenate([*equally_long(name, [each[name] for each in inputs])]) for name in inputs[0]}


def equally_long(name, values):
    """Ends of text and sequences are filled up behind, the tokens of a sequence before them."""
    shape = np.max([value.shape[1:] for value in values], axis=0)
    filling = 0 if name == names.SEQUENCE_BIAS else -1
    for value in values:
        missing = shape - value.shape[1:]
        before = np.zeros_like(missing)
        if value.ndim == 3:
            before[1] = missing[1]
        pads = [(0, 0), *zip(before, missing - before, strict=True)]
        yield np.pad(value, pads, constant_values=filling)


@pytest.fixture(scope="module", params=[OnnxRuntime, Reference, pytest.param(OpenVino, marks=openvino_is_installed)])
def answers(tiny, request):
    """What each gets in the batch of all: tokens and log-probabilities [R, N]."""
    outputs = request.param(tiny).run(joined(checked(tiny.onnx).values()))
    return dict(zip(REQUESTS, zip(*outputs, strict=True), strict=True))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_gets_in_a_batch_what_it_gets_alone(tiny, answers, name):
    request = checked(tiny.onnx)[name]
    alone = tiny.onnx._run(request)
    tokens, *logprobs = answers[name]
    R, N = request.num_return_sequences, alone.tokens.shape[1]
    np.testing.assert_array_equal(tokens[:R, :N], alone.tokens)
    for found, expected in zip(logprobs, alone[1:], strict=True):
        np.testing.assert_allclose(found[:R, :N], expected, rtol=0, atol=LOGPROB_TOLERANCE)


@pytest.mark.parametrize("name", REQUESTS)
def test_what_only_others_asked_for_is_padding(tiny, answers, name):
    request = checked(tiny.onnx)[name]
    asked = np.zeros(answers[name][0].shape, bool)
    asked[: request.num_return_sequences, : tiny.onnx._run(request).tokens.shape[1]] = True
    assert not asked.all()
    tokens, *logprobs = answers[name]
    assert (tokens[~asked] == request.pad_token_id).all()
    assert all((found[~asked] == 0).all() for found in logprobs)


def test_the_longest_request_ends_the_call(tiny):
    """However far another one would go in rows that it did not ask for."""
    requests = checked(tiny.onnx)
    few = joined([requests["one token"], requests["candidates"]])
    assert tiny.onnx.session.run([names.SEQUENCES], few)[0].shape == (2, 4, 5)
    ended = joined([tiny.onnx.check([[1]], max_new_tokens=50, eos_token_id=list(range(96)), temperature=0, seed=1)] * 2)
    ended[names.NUM_RETURN_SEQUENCES] = np.array([1, 6])
    assert tiny.onnx.session.run([names.SEQUENCES], ended)[0].shape == (2, 6, 1)


# Of a prompt of 5 tokens; the model has 64 positions and 97 tokens.
REFUSED = {
    "an id beyond the vocabulary": (names.INPUT_IDS, [[1, 2, 97, 4, 5]]),
    "a negative id": (names.INPUT_IDS, [[1, 2, -1, 4, 5]]),
    "padding on the right": (names.ATTENTION_MASK, [[1, 1, 1, 1, 0]]),
    "padding alone": (names.ATTENTION_MASK, [[0, 0, 0, 0, 0]]),
    "a mask of 2": (names.ATTENTION_MASK, [[1, 1, 1, 1, 2]]),
    "no new token": (names.MAX_NEW_TOKENS, [0]),
    "one new token too many": (names.MAX_NEW_TOKENS, [60]),
    "new tokens without end": (names.MAX_NEW_TOKENS, [2**63 - 1]),
    "fewer than no new tokens": (names.MIN_NEW_TOKENS, [-1]),
    "more of them at least than there are positions": (names.MIN_NEW_TOKENS, [65]),
    "no candidate": (names.NUM_RETURN_SEQUENCES, [0]),
    "candidates beyond int32": (names.NUM_RETURN_SEQUENCES, [2**40]),
    "a negative candidate": (names.FIRST_CANDIDATE, [-1]),
    "a negative temperature": (names.TEMPERATURE, [-0.5]),
    "a temperature that is no number": (names.TEMPERATURE, [np.nan]),
    "a tiny temperature": (names.TEMPERATURE, [1e-20]),
    "top_k beyond the vocabulary": (names.TOP_K, [98]),
    "a negative top_k": (names.TOP_K, [-1]),
    "a top_p of 0": (names.TOP_P, [0]),
    "a top_p above 1": (names.TOP_P, [1.5]),
    "a negative min_p": (names.MIN_P, [-0.1]),
    "a penalty of 0": (names.REPETITION_PENALTY, [0]),
    "an infinite penalty": (names.REPETITION_PENALTY, [np.inf]),
    "a negative n-gram": (names.NO_REPEAT_NGRAM_SIZE, [-1]),
    "a bias that is no number": (names.SEQUENCE_BIAS, [[np.nan]]),
    "a biased id beyond the vocabulary": (names.SEQUENCE_BIAS_IDS, [[[97]]]),
    "a stop sequence of no id": (names.STOP_SEQUENCES, [[[-2]]]),
    "an end of text beyond the vocabulary": (names.EOS_TOKEN_IDS, [[3, 97]]),
    "padding beyond the vocabulary": (names.PAD_TOKEN_ID, [97]),
}


@pytest.mark.parametrize(("name", "value"), REFUSED.values(), ids=list(REFUSED))
def test_a_refused_request_gets_a_number_and_padding_and_its_neighbours_what_they_get_alone(tiny, name, value):
    good = checked(tiny.onnx)["candidates"]
    inputs = joined([good, tiny.onnx.check([[1, 2, 3, 4, 5]], max_new_tokens=7, eos_token_id=[3, 4], pad_token_id=96)])
    assert inputs[name][1:].shape == np.shape(value)
    inputs[name][1:] = value
    tokens, refused = tiny.onnx.session.run([names.SEQUENCES, names.REFUSED], inputs)
    np.testing.assert_array_equal(tokens[0][:, :5], tiny.onnx._run(good).tokens)
    assert refused.tolist() == [0, 1 + names.REFUSABLE.index(name)]
    assert np.unique(tokens[1]).tolist() == [0 if name == names.PAD_TOKEN_ID else 96]


def test_requests_that_are_all_refused_end_at_once(tiny):
    inputs = joined([tiny.onnx.check([[1, 2]], max_new_tokens=50)] * 2)
    inputs[names.TEMPERATURE][:] = -1
    tokens, refused = tiny.onnx.session.run([names.SEQUENCES, names.REFUSED], inputs)
    assert tokens.tolist() == [[[0]], [[0]]]
    assert refused.tolist() == [1 + names.REFUSABLE.index(names.TEMPERATURE)] * 2


def test_every_setting_of_a_prompt_can_be_refused():
    """But for those of which all values are good."""
    assert set(INPUTS) - set(names.REFUSABLE) == {names.SEED, names.RETURN_LOGPROBS}
