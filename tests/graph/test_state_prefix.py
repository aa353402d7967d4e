"""Prompts behind a prefix of which K and V are given, against the whole prompts."""

from __future__ import annotations

import numpy as np
import pytest
from calls import PROMPTS, RESULTS, assert_close, random_ids

from gptloop import names

pytestmark = pytest.mark.usefixtures("one_torch_thread")

LENGTHS = [(1, 1), (1, 130), (5, 7), (127, 1), (128, 1), (127, 129), (129, 128), (1, 256), (200, 57), (256, 2)]


@pytest.mark.parametrize(("past", "prompt"), LENGTHS)
def test_prompts_behind_a_prefix_of_each_are_those_of_the_whole(model, precision, past, prompt):
    """L tokens before and P behind, in one chunk and in several; left padding is in the prefix."""
    ids = random_ids(3, past + prompt)
    mask = np.ones_like(ids)
    mask[1, : past // 2] = 0
    prefix = model.prefix(ids[:, :past], attention_mask=mask[:, :past])
    call = {"attention_mask": mask, "num_return_sequences": 2, "max_new_tokens": 8}
    assert_close(model.call(ids, prefix, **call), model.call(ids, **call), precision)


@pytest.mark.parametrize(("past", "prompt"), [(5, 7), (128, 1), (60, 200)])
def test_prompts_behind_a_prefix_that_all_share_are_those_of_the_whole(model, precision, past, prompt):
    shared = random_ids(1, past)
    prefix = model.prefix(shared)
    assert all(kv.shape[0] == 1 for name, kv in prefix.items() if name != names.PAST_SIZES)
    ids = np.concatenate([np.repeat(shared, 3, axis=0), random_ids(3, prompt)], axis=1)
    call = {"num_return_sequences": 2, "max_new_tokens": 8}
    assert_close(model.call(ids, prefix, **call), model.call(ids, **call), precision)


def test_a_prefix_is_followed_by_a_generation_in_calls(model):
    """To the last bit, since the prefill is the same in both."""
    shared = random_ids(1, 12)
    prefix = model.prefix(shared)
    ids = np.concatenate([np.repeat(shared, 3, axis=0), PROMPTS], axis=1)
    state = {names.RETURN_STATE: np.array([True])} | prefix
    outputs = model.call(ids, state, max_new_tokens=6)
    found = [[outputs[name] for name in RESULTS]]
    later = model.call(ids, model.state(outputs, found, len(ids[0])), max_new_tokens=7)
    expected = model.call(ids, prefix, max_new_tokens=13)
    for name, first in zip(RESULTS, found[0], strict=True):
        np.testing.assert_array_equal(np.concatenate([first, later[name]], axis=2), expected[name], strict=True)
