"""What a generate call refuses, by name, value and bound, before either loop does any work."""

import re

import numpy as np
import pytest

from gptloop.runtime import memory

pytestmark = pytest.mark.usefixtures("one_torch_thread")
ONE, TWO = [[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]
SEED_BOUND = r"0..2^63 - 1"

# What is wrong: the call, and what the message has to name.
BAD_CALLS = {
    # input_ids
    "no prompts": ([], {}, ["input_ids", "[0]"]),
    "an empty prompt": ([[]], {}, ["input_ids", "at least 1", "[1, 0]"]),
    "0 prompts of 5 tokens": (np.zeros((0, 5), int), {}, ["input_ids", "at least 1", "[0, 5]"]),
    "an id below 0": ([[1, -1]], {}, ["input_ids", "-1", "0..96"]),
    "an id of vocab_size": ([[96, 97]], {}, ["input_ids", "got 97", "0..96"]),
    "an id beyond int64": ([[2**70]], {}, ["input_ids", "0..96", str(2**70)]),
    "an id of 5,000 digits": ([[1, 10**5000]], {}, ["input_ids", "0..96", "16610 bits"]),
    "an id beyond int64 beside text": ([[2**70, "1"]], {}, ["input_ids", "integers"]),
    "float ids": ([[1.0, 2.0]], {}, ["input_ids", "integers", "float64"]),
    "bool ids": ([[True, False]], {}, ["input_ids", "integers", "bool"]),
    "text": ("hello", {}, ["input_ids", "[prompts, prompt_len]"]),
    "text in lists": ([["hello"]], {}, ["input_ids", "integers"]),
    "no ids": (None, {}, ["input_ids", "[prompts, prompt_len]"]),
    "1 dimension": ([1, 2, 3], {}, ["input_ids", "2 dimensions", "[3]"]),
    "3 dimensions": ([ONE], {}, ["input_ids", "2 dimensions", "[1, 1, 3]"]),
    "ragged ids": ([[1, 2], [3]], {}, ["input_ids", "rectangular"]),
    # max_new_tokens
    "no new tokens": (ONE, {"max_new_tokens": 0}, ["max_new_tokens", "at least 1", "got 0"]),
    "-1 new tokens": (ONE, {"max_new_tokens": -1}, ["max_new_tokens", "at least 1", "got -1"]),
    "1.5 new tokens": (ONE, {"max_new_tokens": 1.5}, ["max_new_tokens", "integer", "1.5"]),
    "True new tokens": (ONE, {"max_new_tokens": True}, ["max_new_tokens", "integer", "True"]),
    "None new tokens": (ONE, {"max_new_tokens": None}, ["max_new_tokens", "integer", "None"]),
    "more than n_positions": (
        ONE,
        {"max_new_tokens": 62},
        ["prompt_len 3", "max_new_tokens 62", "65", "n_positions 64"],
    ),
    "prompt above n_positions": ([[1] * 64], {}, ["prompt_len 64", "n_positions 64"]),
    "astronomically many": (ONE, {"max_new_tokens": 2**70}, ["max_new_tokens", str(2**70)]),
    # num_return_sequences
    "0 candidates": (ONE, {"num_return_sequences": 0}, ["num_return_sequences", "at least 1", "got 0"]),
    "2.0 candidates": (ONE, {"num_return_sequences": 2.0}, ["num_return_sequences", "integer", "2.0"]),
    "True candidates": (ONE, {"num_return_sequences": True}, ["num_return_sequences", "integer", "True"]),
    # temperature
    "temperature below 0": (ONE, {"temperature": -0.5}, ["temperature", "0 (greedy)", "-0.5"]),
    "one temperature below 0": (TWO, {"temperature": [1.0, -1.0]}, ["temperature", "-1"]),
    "temperature -1e-46": (ONE, {"temperature": -1e-46}, ["temperature", "-1e-46"]),
    "temperature that overflows": (ONE, {"temperature": 1e-6}, ["temperature", "from 1e-05"]),
    "temperature 1e-46": (ONE, {"temperature": 1e-46}, ["temperature", "1e-05", "1e-46"]),
    "temperature nan": (ONE, {"temperature": float("nan")}, ["temperature", "finite", "nan"]),
    "temperature inf": (ONE, {"temperature": float("inf")}, ["temperature", "finite", "inf"]),
    "temperature 1e39": (ONE, {"temperature": 1e39}, ["temperature", "finite"]),
    "temperature 10^400": (ONE, {"temperature": 10**400}, ["temperature", "finite"]),
    "temperature of letters": (ONE, {"temperature": "hot"}, ["temperature", "number", "hot"]),
    "temperature of digits": (ONE, {"temperature": "1.0"}, ["temperature", "number", "1.0"]),
    "temperature True": (ONE, {"temperature": True}, ["temperature", "number", "True"]),
    "temperature None": (ONE, {"temperature": None}, ["temperature"]),
    "temperature 1j": (ONE, {"temperature": 1j}, ["temperature", "number", "1j"]),
    "2 temperatures for 1 prompt": (ONE, {"temperature": [1.0, 1.0]}, ["temperature", "one per prompt (1)", "[2]"]),
    "1 temperature in a list for 2": (TWO, {"temperature": [1.0]}, ["temperature", "one per prompt (2)", "[1]"]),
    "temperatures in 2 dimensions": (ONE, {"temperature": [[1.0]]}, ["temperature", "[1, 1]"]),
    "ragged temperatures": (TWO, {"temperature": [1.0, [1.0, 2.0]]}, ["temperature", "one per prompt (2)"]),
    # top_k
    "top_k below 0": (ONE, {"top_k": -1}, ["top_k", "at least 0", "-1"]),
    "top_k above the vocabulary": (ONE, {"top_k": 98}, ["top_k", "0..97", "98"]),
    "one top_k above the vocabulary": (TWO, {"top_k": [5, 98]}, ["top_k", "0..97", "98"]),
    "top_k 5.0": (ONE, {"top_k": 5.0}, ["top_k", "integer", "5.0"]),
    "top_k True": (ONE, {"top_k": True}, ["top_k", "integer", "True"]),
    "top_k None": (ONE, {"top_k": None}, ["top_k", "integer", "None"]),
    "3 top_k for 2 prompts": (TWO, {"top_k": [1, 2, 3]}, ["top_k", "one per prompt (2)", "[3]"]),
    "no top_k": (ONE, {"top_k": []}, ["top_k", "one per prompt (1)", "[0]"]),
    "ragged top_k": (TWO, {"top_k": [[1], [2, 3]]}, ["top_k", "one per prompt (2)"]),
    # seed
    "seed below 0": (ONE, {"seed": -1}, ["seed", "at least 0", "-1"]),
    "seed 2^63": (ONE, {"seed": 2**63}, ["seed", "2^63 - 1", str(2**63)]),
    "seed that counts up past 2^63 - 1": (TWO, {"seed": 2**63 - 1}, ["seed", SEED_BOUND, "2 prompts", str(2**63)]),
    "one seed of 2^63": (TWO, {"seed": [0, 2**63]}, ["seed", "2^63 - 1", str(2**63)]),
    "seed 0.5": (ONE, {"seed": 0.5}, ["seed", "integer", "0.5"]),
    "seed True": (ONE, {"seed": True}, ["seed", "integer", "True"]),
    # the others
    "top_p 0": (ONE, {"top_p": 0}, ["top_p", "above 0", "0"]),
    "top_p above 1": (TWO, {"top_p": [0.5, 1.5]}, ["top_p", "at most 1", "1.5"]),
    "top_p that float32 takes for 0": (ONE, {"top_p": 1e-46}, ["top_p", "above 0", "1e-46"]),
    "top_p nan": (ONE, {"top_p": float("nan")}, ["top_p", "nan"]),
    "min_p below 0": (ONE, {"min_p": -0.1}, ["min_p", "0..1", "-0.1"]),
    "min_p above 1": (ONE, {"min_p": 1.1}, ["min_p", "0..1", "1.1"]),
    "2 min_p for 1 prompt": (ONE, {"min_p": [0.1, 0.2]}, ["min_p", "one per prompt (1)", "[2]"]),
    "a min_p above 1 for one prompt": (TWO, {"min_p": [0.1, 2]}, ["min_p", "0..1", "2"]),
    "a penalty of 0 for one prompt": (TWO, {"repetition_penalty": [1, 0]}, ["repetition_penalty", "above 0", "0"]),
    "3 penalties for 2 prompts": (TWO, {"repetition_penalty": [1, 1, 1]}, ["repetition_penalty", "(2)", "[3]"]),
    "repetition_penalty 0": (ONE, {"repetition_penalty": 0}, ["repetition_penalty", "above 0", "0"]),
    "repetition_penalty that float32 takes for 0": (
        ONE,
        {"repetition_penalty": 1e-46},
        ["repetition_penalty", "above 0", "1e-46"],
    ),
    "repetition_penalty that float32 takes for inf": (
        ONE,
        {"repetition_penalty": 1e39},
        ["repetition_penalty", "1e+39"],
    ),
    "a ragged attention_mask": (
        ONE,
        {"attention_mask": [[1], [1, 1]]},
        ["attention_mask", "[1, 3]", "got 2 ragged rows, of 1 to 2"],
    ),
    "an attention_mask of another shape": (
        TWO,
        {"attention_mask": [[1, 1, 1]]},
        ["attention_mask", "got shape [1, 3]"],
    ),
    "an attention_mask in 1 dimension": (ONE, {"attention_mask": [1, 1, 1]}, ["attention_mask", "got shape [3]"]),
    "an attention_mask that is a number": (ONE, {"attention_mask": 1}, ["attention_mask", "got shape []"]),
    "an attention_mask of 2": (ONE, {"attention_mask": [[0, 1, 2]]}, ["attention_mask", "0 or 1, got 2"]),
    "an attention_mask of letters": (ONE, {"attention_mask": [["1", "1", "1"]]}, ["attention_mask", "got '1'"]),
    "a temperature just below the bound": (ONE, {"temperature": 9.99e-6}, ["temperature", "9.99e-06"]),
    "a penalty just above the bound": (ONE, {"repetition_penalty": 100_001}, ["repetition_penalty", "100001"]),
    "a min_p just above 1": (ONE, {"min_p": 1 + 1e-6}, ["min_p", "0..1"]),
    "a min_p below 0 that float32 takes for 0": (ONE, {"min_p": -1e-46}, ["min_p", "-1e-46"]),
    "repetition_penalty inf": (ONE, {"repetition_penalty": float("inf")}, ["repetition_penalty", "inf"]),
    "min_new_tokens below 0": (ONE, {"min_new_tokens": -1}, ["min_new_tokens", "at least 0", "-1"]),
    "min_new_tokens above max": (ONE, {"min_new_tokens": 5}, ["min_new_tokens", "max_new_tokens 4", "5"]),
    "eos_token_id below 0": (ONE, {"eos_token_id": -1}, ["eos_token_id", "at least 0", "-1"]),
    "eos_token_id V": (ONE, {"eos_token_id": [3, 97]}, ["eos_token_id", "0..96", "97"]),
    "eos_token_id of all": (
        ONE,
        {"eos_token_id": range(97), "min_new_tokens": 1},
        ["eos_token_id", "min_new_tokens 1", "97"],
    ),
    "return_logprobs no": (ONE, {"return_logprobs": "no"}, ["return_logprobs", "True or False", "'no'"]),
    "eos_token_id of letters": (ONE, {"eos_token_id": "end"}, ["eos_token_id", "integer", "end"]),
    "eos_token_ids in 2 dimensions": (ONE, {"eos_token_id": [[1]]}, ["eos_token_id", "[[1]]"]),
    "pad_token_id V": (ONE, {"pad_token_id": 97}, ["pad_token_id", "0..96", "97"]),
    "1 seed in a list for 2 prompts": (TWO, {"seed": [1]}, ["seed", "one per prompt (2)", "[1]"]),
    "ragged seeds": (TWO, {"seed": [[1], [2, 3]]}, ["seed", "one per prompt (2)"]),
}


@pytest.mark.parametrize(("input_ids", "call", "named"), BAD_CALLS.values(), ids=list(BAD_CALLS))
def test_a_bad_call_is_refused_with_the_value_and_the_bound(idle_loop, input_ids, call, named):
    with pytest.raises(ValueError, match=re.escape(named[0])) as error:
        idle_loop.generate(input_ids, **{"max_new_tokens": 4, **call})
    assert [word for word in named if word not in str(error.value)] == []


@pytest.mark.parametrize("unknown", ["do_sample", "num_beams", "typical_p", "stop_strings"])
def test_a_setting_that_is_not_supported_is_refused_not_ignored(idle_loop, unknown):
    with pytest.raises(TypeError, match=unknown):
        idle_loop.generate(ONE, max_new_tokens=1, **{unknown: None})


def test_settings_have_to_be_named(idle_loop):
    with pytest.raises(TypeError):
        idle_loop.generate(ONE, 4)
    with pytest.raises(TypeError, match="max_new_tokens"):
        idle_loop.generate(ONE)


@pytest.mark.parametrize(
    "call",
    [
        {"max_new_tokens": 61},
        {"top_k": 97},
        {"top_k": np.int32(5)},
        {"top_k": np.array([5])},
        {"seed": 2**63 - 1},
        {"seed": np.uint64(2**63 - 1)},
        {"temperature": 1e-5},
        {"temperature": np.float32(1e-5)},
        {"temperature": [np.float32(1e38)]},
        {"temperature": np.array([1e-5], np.float32)},
        {"repetition_penalty": np.float32(1e-5)},
        {"repetition_penalty": np.float32(1e5)},
        {"top_p": np.float32(1)},
        {"top_p": np.float32(1e-45)},
        {"min_p": np.float32(1)},
        {"min_p": np.float16(0)},
        {"temperature": np.float64(0.5)},
        {"temperature": 2},
        {"num_return_sequences": np.int64(2)},
    ],
    ids=str,
)
def test_a_value_on_its_bound_or_of_numpys_types_is_taken(tiny, call):
    call = {"max_new_tokens": 2, **call}
    tokens = tiny.onnx.generate(ONE, **call)
    assert tokens.shape == (call.get("num_return_sequences", 1), call["max_new_tokens"])
    np.testing.assert_array_equal(tiny.torch.generate(ONE, **call), tokens)


@pytest.mark.parametrize("vocab_size", [1, 7, 49, 51])
def test_the_default_top_k_ends_at_the_vocabulary(open_tiny, vocab_size):
    """An explicit one does not."""
    small = open_tiny(n_layer=1, vocab_size=vocab_size)
    call = {"max_new_tokens": 6, "num_return_sequences": 4}
    tokens = small.onnx.generate([[0]], **call)
    np.testing.assert_array_equal(small.onnx.generate([[0]], top_k=min(50, vocab_size), **call), tokens)
    np.testing.assert_array_equal(small.torch.generate([[0]], **call), tokens)
    with pytest.raises(ValueError, match=f"top_k must be within 0..{vocab_size} .*, got {vocab_size + 1}"):
        small.onnx.generate([[0]], top_k=vocab_size + 1, **call)


HOSTILE = "x" * 100_000


@pytest.mark.parametrize(
    "call",
    [
        {"temperature": HOSTILE},
        {"temperature": 10**4_000},
        {"top_k": 10**4_000},
        {"top_k": 10**100_000},
        {"max_new_tokens": HOSTILE},
        {"eos_token_id": [[5] * 100_000]},
        {"pad_token_id": list(range(100_000))},
        {"seed": -(10**4_000)},
        {"attention_mask": [[HOSTILE, 1, 1]]},
        {"top_p": [HOSTILE]},
    ],
    ids=lambda call: f"{next(iter(call))}-{type(next(iter(call.values()))).__name__}",
)
def test_a_message_repeats_no_long_value(idle_loop, call):
    with pytest.raises(ValueError, match=next(iter(call))) as error:
        idle_loop.generate(ONE, **{"max_new_tokens": 4, **call})
    assert len(str(error.value)) < 500


def test_a_call_that_cannot_fit_is_refused_before_it_starts(tiny, monkeypatch):
    """With what it takes at least: here 64 rows of 60 tokens, in 2 layers of 32 numbers."""
    monkeypatch.setattr(memory, "memory_bytes", lambda: 2 * 2 * 32 * 4 * 59 * 64)
    call = {"max_new_tokens": 60, "num_return_sequences": 64}
    needed = "num_return_sequences 64 of 1 prompts with max_new_tokens 60 takes at least 0.0 GB"
    with pytest.raises(ValueError, match=needed):
        tiny.onnx.generate(ONE, **call)
    assert tiny.onnx.generate(ONE, eos_token_id=0, **call).shape[0] == 64, "whose rows may all end at once"
    assert tiny.onnx.generate(ONE, **{**call, "num_return_sequences": 50}).shape == (50, 60)


def test_the_machines_memory_is_known():
    assert 10**8 < memory.memory_bytes() < 10**15
