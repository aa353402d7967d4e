"""Prefixes: the tokens of a call with the whole prompts, however much was computed before."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from streams import PROMPTS, SETTINGS, joined


@given(length=st.integers(1, 8), batch=st.sampled_from([1, 2]), arguments=SETTINGS)
def test_a_prefix_and_more_are_the_whole_prompts(onnx, length, batch, arguments):
    rng = np.random.default_rng(length)
    beginning = rng.integers(0, 97, (batch, length))
    mask = arguments.pop("attention_mask")
    prefix = onnx.prefill(beginning)
    arguments["max_new_tokens"] = min(arguments["max_new_tokens"], onnx.bounds.n_positions - length - 5)
    whole = np.concatenate([np.broadcast_to(beginning, (2, length)), PROMPTS], axis=1)
    whole_mask = None
    if mask:  # padding between a prefix and what follows it leaves no trace: the same as padding before both
        whole = np.array([[0, 0, *beginning[0], *PROMPTS[0][2:]], [*beginning[-1], *PROMPTS[1]]])
        whole_mask = np.array([[0, 0, *[1] * (length + 3)], [1] * (length + 5)])
    expected = onnx.generate(whole, attention_mask=whole_mask, **arguments)
    found = onnx.generate(PROMPTS, attention_mask=mask, prefix=prefix, **arguments)
    np.testing.assert_array_equal(found, expected)
    streamed = joined(onnx.stream(PROMPTS, attention_mask=mask, prefix=prefix, block=3, **arguments))
    np.testing.assert_array_equal(streamed, expected)


def test_a_prefix_is_hugging_faces_past_key_values(tiny, onnx):
    beginning, more = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[9, 10]])
    prefix = onnx.prefill(beginning.numpy())
    with torch.no_grad():
        past = tiny.model(beginning, use_cache=True).past_key_values
    for layer in range(tiny.model.config.n_layer):
        key = prefix.caches[f"past_prompt.{layer}.key"].numpy().swapaxes(2, 3)[:, :, ::-1]
        np.testing.assert_allclose(key, past.layers[layer].keys / np.sqrt(1.0), rtol=1e-4, atol=1e-5)
        value = prefix.caches[f"past_prompt.{layer}.value"].numpy()[:, :, ::-1]
        np.testing.assert_allclose(value, past.layers[layer].values, rtol=1e-4, atol=1e-5)
    expected = tiny.model.generate(
        torch.cat([beginning, more], 1), past_key_values=past, max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    found = onnx.generate(more.numpy(), prefix=prefix, max_new_tokens=12, temperature=0)
    np.testing.assert_array_equal(found, expected[:, 6:].numpy())


def test_a_conversation_goes_on_from_the_last_state(onnx):
    """Three turns, one row of which ends early: the tokens are those of the whole text each time."""
    call = {"max_new_tokens": 9, "temperature": 0.9, "top_k": 9}
    whole, mask, prefix = np.zeros((2, 0), int), np.zeros((2, 0), int), None
    for turn in range(3):
        said = np.random.default_rng(turn).integers(0, 97, (2, 2 + turn))
        whole = np.concatenate([whole, said], axis=1)
        mask = np.concatenate([mask, np.ones_like(said)], axis=1)
        plain = onnx.generate(said, prefix=prefix, seed=turn, **call)
        eos = {"eos_token_id": int(plain[0, 3])} if turn == 0 else {}
        stream = onnx.stream(said, prefix=prefix, seed=turn, block=4, **eos, **call)
        reply = joined(stream)
        if turn:  # of the whole text, padding within it left out by hand, row by row
            for row in range(2):
                text = whole[row][mask[row] == 1]
                alone = onnx.generate([text], seed=turn + row, **call)
                np.testing.assert_array_equal(reply[row], alone[0])
        prefix = stream.prefix()
        whole, mask = prefix.input_ids, prefix.attention_mask
    assert (mask[0] == 0).any()
    assert (mask[1] == 1).all()


def test_a_candidate_may_be_chosen_for_each_prompt(onnx):
    stream = onnx.stream(PROMPTS, max_new_tokens=6, num_return_sequences=3, seed=2)
    reply = joined(stream).reshape(2, 3, 6)
    prefix = stream.prefix([2, 0])
    np.testing.assert_array_equal(prefix.input_ids[:, 5:], reply[[0, 1], [2, 0]])
    expected = onnx.generate(np.concatenate([prefix.input_ids, [[1], [2]]], axis=1), max_new_tokens=5, seed=4)
    np.testing.assert_array_equal(onnx.generate([[1], [2]], prefix=prefix, max_new_tokens=5, seed=4), expected)


@pytest.mark.parametrize(
    "settings",
    [{"bad_words_ids": [[5, 7, 22]]}, {"sequence_bias": {(5, 7, 9): 1e4}}, {"no_repeat_ngram_size": 2}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_sequence_begins_in_a_prefix_and_ends_behind_a_shorter_prompts_padding(onnx, settings):
    """Padding of a batch stands between both, and the text is the one without."""
    prefix = onnx.prefill([[5]])
    ids, mask = np.array([[7, 7], [0, 7]]), np.array([[1, 1], [0, 1]])
    forced = {"sequence_bias": {(5, 7, 22): 1e3, (22, 5): 1e3, (5, 7): 1e3, (7, 5): 1e3}} | settings
    call = {"max_new_tokens": 6, "temperature": 0, **forced}
    found = onnx.generate(ids, attention_mask=mask, prefix=prefix, **call)
    np.testing.assert_array_equal(found[1:], onnx.generate([[5, 7]], **call))
    np.testing.assert_array_equal(found[:1], onnx.generate([[5, 7, 7]], **call))


def test_a_prefix_may_be_used_again_and_grows(onnx):
    first = onnx.prefill([[1, 2, 3]])
    longer = onnx.prefill([[4, 5]], prefix=first)
    expected = onnx.generate([[1, 2, 3, 4, 5, 6]] * 2, max_new_tokens=5, seed=3)
    for _ in range(2):
        np.testing.assert_array_equal(onnx.generate([[6]] * 2, prefix=longer, max_new_tokens=5, seed=3), expected)
    np.testing.assert_array_equal(onnx.generate([[4, 5, 6]] * 2, prefix=first, max_new_tokens=5, seed=3), expected)


# Bad input


def test_a_prefix_of_another_file_or_number_of_prompts_is_refused(onnx, int8):
    with pytest.raises(ValueError, match=r"prefix must be of the same file, got one of another \(.* in int8\)"):
        onnx.generate([[1]], prefix=int8.prefill([[1, 2]]), max_new_tokens=1)
    with pytest.raises(ValueError, match="prefix must have 1 prompt or input_ids' 3, got 2"):
        onnx.generate([[1]] * 3, prefix=onnx.prefill([[1, 2]] * 2), max_new_tokens=1)


@pytest.mark.parametrize("prefix", [3, [[1, 2]], False], ids=str)
def test_what_is_no_prefix_is_refused(onnx, prefix):
    refusal = re.escape(f"prefix must be what prefill() or Stream.prefix() has returned, got {prefix}")
    with pytest.raises(ValueError, match=refusal):
        onnx.generate([[1]], prefix=prefix, max_new_tokens=1)
    with pytest.raises(ValueError, match=refusal):
        onnx.stream([[1]], prefix=prefix, max_new_tokens=1)
    with pytest.raises(ValueError, match=refusal):
        onnx.prefill([[1]], prefix=prefix)


def test_a_prefix_counts_among_the_positions(onnx):
    prefix = onnx.prefill([[1, 2, 3]])
    n = onnx.bounds.n_positions
    with pytest.raises(ValueError, match=rf"prefix 3 \+ prompt_len 1 \+ max_new_tokens {n} = {n + 4} is above"):
        onnx.generate([[1]], prefix=prefix, max_new_tokens=n)


def test_a_candidate_that_is_not_there_is_refused(onnx):
    stream = onnx.stream(PROMPTS, max_new_tokens=3, num_return_sequences=2)
    with pytest.raises(ValueError, match="needs at least 1 block of new tokens"):
        stream.prefix(0)
    next(stream)
    for candidate, message in [(2, "candidate must be at most 1"), (None, "must be given"), ([0], "one for each of 2")]:
        with pytest.raises(ValueError, match=message):
            stream.prefix(candidate)
