"""Stop sequences: a row ends with the generated token that completes one."""

from __future__ import annotations

import numpy as np
import pytest
from hugging_face import V, hugging_face, prompts
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.usefixtures("one_torch_thread")
PAD = 96


@pytest.fixture(scope="module", params=["onnx", "torch"])
def loop(request, tiny):
    return getattr(tiny, request.param)


def ended(rows: np.ndarray, sequences: list[list[int]]) -> np.ndarray:
    """Rows up to the first token with which they end with a sequence, then padding; as long as the longest."""
    lengths = []
    for row in rows.tolist():
        ends = (n for n in range(1, len(row) + 1) for s in sequences if row[:n][-len(s) :] == s)
        lengths.append(next(ends, len(row)))
    cut = [row[:n].tolist() + [PAD] * (max(lengths) - n) for row, n in zip(rows, lengths, strict=True)]
    return np.array(cut)


@given(data=st.data())
def test_a_row_ends_with_the_token_that_completes_one(tiny, loop, data):
    """Sequences of the rows' own tokens from anywhere, and others; on greedy tokens of Hugging Face."""
    ids = prompts(3, 5, data.draw(st.integers(0, 9)))
    free = hugging_face(tiny, ids, max_new_tokens=12)
    spans = st.tuples(st.integers(0, 2), st.integers(0, 11), st.integers(1, 4))
    own = [free[row, at : at + length].tolist() for row, at, length in data.draw(st.lists(spans, max_size=3))]
    others = data.draw(st.lists(st.lists(st.integers(0, V - 1), min_size=1, max_size=14), min_size=not own, max_size=3))
    call = {"max_new_tokens": 12, "temperature": 0, "pad_token_id": PAD}
    found = loop.generate(ids, stop_sequences=own + others, **call)
    np.testing.assert_array_equal(found, ended(free, own + others))


def test_the_prompts_tokens_complete_none(tiny, loop):
    ids = prompts(1, 5)
    free = loop.generate(ids, max_new_tokens=6, temperature=0)
    across = [int(ids[0, -1]), int(free[0, 0])]
    found = loop.generate(ids, max_new_tokens=6, temperature=0, stop_sequences=[across, ids[0].tolist()])
    np.testing.assert_array_equal(found, free)


def test_one_sequence_may_stand_alone(loop):
    ids = prompts(2, 4)
    call = {"max_new_tokens": 9, "pad_token_id": PAD}
    free = loop.generate(ids, **call)
    one = free[0, 3:5]
    for given_ in (one, one.tolist(), [one], [one.tolist()], one[None]):
        np.testing.assert_array_equal(loop.generate(ids, stop_sequences=given_, **call), ended(free, [one.tolist()]))


def test_an_end_of_text_and_a_stop_sequence_each_end_their_rows(loop):
    ids = prompts(3, 4)
    free = loop.generate(ids, max_new_tokens=10)
    eos, stop = int(free[0, 4]), free[1, 2:5].tolist()
    found = loop.generate(ids, max_new_tokens=10, eos_token_id=eos, stop_sequences=stop, pad_token_id=PAD)
    np.testing.assert_array_equal(found, ended(free, [[eos], stop]))


def test_min_new_tokens_puts_off_the_end_of_text_alone(loop):
    """As Hugging Face's does."""
    ids = prompts(1, 4)
    free = loop.generate(ids, max_new_tokens=10)
    stop = free[0, :2].tolist()
    call = {"eos_token_id": PAD, "max_new_tokens": 10, "min_new_tokens": 9}
    assert loop.generate(ids, stop_sequences=stop, **call).tolist() == [stop]


def test_log_probabilities_are_0_after_a_stop_sequence(loop):
    ids = prompts(2, 4)
    free = loop.generate(ids, max_new_tokens=10)
    stop = free[0, 2:4].tolist()
    found = loop.generate(ids, max_new_tokens=10, stop_sequences=stop, return_logprobs=True)
    assert (found.logprobs[0, :4] < 0).all()
    assert (found.logprobs[0, 4:] == 0).all()
    assert (found.logprobs[1] < 0).all()
