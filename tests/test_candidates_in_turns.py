"""Candidates generated in turns are those of one call for all: a number depends on seed, candidate and step."""

import numpy as np
import pytest

from gptloop.reference.parity import Judge
from gptloop.runtime import batches
from gptloop.runtime.completer import Completer
from gptloop.runtime.feeds import feeds
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = np.random.default_rng(0).integers(0, 97, (2, 5))


@pytest.mark.parametrize("loop", ["onnx", "torch"])
def test_a_turn_goes_on_with_the_candidates_of_one_call(tiny, loop):
    generate = getattr(tiny, loop).generate
    call = {"max_new_tokens": 7, "seed": [3, 2**40], "temperature": 1.3}
    whole = generate(PROMPTS, num_return_sequences=9, **call).reshape(2, 9, 7)
    for first, number in ((0, 4), (4, 4), (8, 1), (2, 5)):
        turn = generate(PROMPTS, num_return_sequences=number, first_candidate=first, **call).reshape(2, number, 7)
        np.testing.assert_array_equal(turn, whole[:, first : first + number])


def test_both_loops_agree_on_the_last_candidates_there_are(tiny):
    call = {"max_new_tokens": 6, "num_return_sequences": 3, "first_candidate": 2**31 - 4, "temperature": 2.0}
    request = check_request(tiny.model.config, PROMPTS, **call)
    Judge(tiny.model).check(request, tiny.torch.generate(PROMPTS, **call), tiny.onnx.generate(PROMPTS, **call))


def test_a_completer_generates_many_candidates_in_turns(trained, monkeypatch):
    call = {"seed": 5, "num_return_sequences": 11, "max_new_tokens": 6, "temperature": 2.0}
    prompts = [trained.ids[:4], trained.ids[9:12]]
    whole = list(Completer(trained.onnx).complete(prompts, **call))
    monkeypatch.setattr(batches, "ROWS", 4)
    turns = list(Completer(trained.onnx).complete(prompts, **call))
    assert [[c.ids for c in candidates] for candidates in turns] == [
        [c.ids for c in candidates] for candidates in whole
    ]
    assert [len(candidates) for candidates in turns] == [11, 11]
    logprobs = [[c.logprob for candidates in found for c in candidates] for found in (turns, whole)]
    np.testing.assert_allclose(*logprobs, rtol=1e-4)  # rounded otherwise in another batch


def test_the_rows_of_a_turn_are_all_that_memory_has_to_hold(trained):
    """As many candidates as would fill any memory are no error before the first turn."""
    completions = Completer(trained.onnx).complete(
        [trained.ids[:4]], seed=0, num_return_sequences=10**6, max_new_tokens=4
    )
    assert iter(completions)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"first_candidate": -1}, "first_candidate must be at least 0, got -1"),
        ({"first_candidate": 2**31 - 1}, "first_candidate must be at most 2147483646, got 2147483647"),
        ({"num_return_sequences": 2**31}, "num_return_sequences must be at most 2147483647, got 2147483648"),
    ],
)
def test_candidates_beyond_the_count_are_refused(tiny, arguments, words):
    with pytest.raises(ValueError, match=words):
        tiny.onnx.generate(PROMPTS, max_new_tokens=2, **arguments)


def test_every_input_of_the_graph_is_fed(tiny):
    request = check_request(tiny.model.config, PROMPTS, max_new_tokens=2)
    assert set(feeds(request)) == {value.name for value in tiny.onnx.session.get_inputs()}
