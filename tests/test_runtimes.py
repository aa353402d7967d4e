"""The same file on other runtimes: onnx's ReferenceEvaluator and OpenVINO give the tokens that OnnxLoop gives.

OpenVINO runs on the CPU with float32 (its hint INFERENCE_PRECISION_HINT; by itself it may take bfloat16). Its plugin
narrows int64 to the lower 32 bits, so that seeds from 2^32 on are others there; nothing else is known to differ.

Tokens are compared for equality: over these draws with fixed seeds no near-tie stands in the way.
"""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from other_runtimes import OpenVinoLoop, ReferenceLoop, openvino_is_installed

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Logits of this model are up to about 10; three runtimes sum their products in three orders. 5e-6 was seen.
LOGPROB_TOLERANCE = 5e-5

PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3], [90, 2, 77, 31, 31]])
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])
MANY_ENDS = list(range(30))  # so that rows end, and at different steps

BAD_WORDS = [[token] for token in range(0, 97, 3)] + [[a, b] for a in range(97) for b in (1, 40, 80)]
# The ends of prompts, so that the first step has sequences to go on; and single ids.
BIASES = {(17, 42, 5): 9.0, (42, 6): 7.5, (60, 3, 7): 9.0, (11,): 2.0, (12,): -2.0, (31, 31, 90): 8.0, (0, 5): -inf}
STOPS = [[a, b] for a in range(48) for b in range(0, 97, 2)] + [[5], list(range(20))]

FEATURES = {
    "greedy": {"temperature": 0},
    "sampled": {},
    "one new token": {"max_new_tokens": 1},
    "two new tokens": {"max_new_tokens": 2},
    "candidates": {"num_return_sequences": 3},
    "one new token of candidates": {"max_new_tokens": 1, "num_return_sequences": 3},
    "temperature": {"temperature": [0.5, 1.5, 3.0]},
    "top_k": {"top_k": [1, 5, 97]},
    "whole vocabulary": {"top_k": 0},
    "one whole vocabulary": {"top_k": [3, 0, 50]},
    "top_p": {"top_p": 0.8},
    "top_p of the whole vocabulary": {"top_p": 0.8, "top_k": 0},
    "top_p of one": {"top_p": [1.0, 0.3, 1.0]},
    "min_p": {"min_p": 0.1},
    "min_p of the whole vocabulary": {"min_p": 0.02, "top_k": 0},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "repetition_penalty, greedy": {"repetition_penalty": 0.8, "temperature": 0},
    "attention_mask": {"attention_mask": MASK},
    "attention_mask, greedy": {"attention_mask": MASK, "temperature": 0},
    "attention_mask, repetition_penalty": {"attention_mask": MASK, "repetition_penalty": 1.3},
    "min_p, repetition_penalty of each": {"min_p": [0.0, 0.1, 0.3], "repetition_penalty": [1.6, 1.0, 0.7]},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "no_repeat_ngram_size of each": {"no_repeat_ngram_size": [1, 0, 2], "top_k": 2, "attention_mask": MASK},
    "suppress_tokens": {"suppress_tokens": list(range(0, 97, 2))},
    "bad_words_ids": {"bad_words_ids": BAD_WORDS},
    "sequence_bias": {"sequence_bias": BIASES},
    "sequence_bias, attention_mask": {"sequence_bias": BIASES, "attention_mask": MASK, "repetition_penalty": 1.4},
    "stop_sequences": {"stop_sequences": STOPS, "num_return_sequences": 3, "top_k": 4},
    "stop_sequences of one id, and pad": {"stop_sequences": [[x] for x in MANY_ENDS], "pad_token_id": 96},
    "stop_sequences and eos": {"stop_sequences": STOPS, "eos_token_id": MANY_ENDS[:5], "num_return_sequences": 3},
    "eos": {"eos_token_id": MANY_ENDS, "num_return_sequences": 2},
    "eos at once": {"eos_token_id": list(range(96)), "temperature": 0},
    "eos and pad": {"eos_token_id": MANY_ENDS, "pad_token_id": 96},
    "min_new_tokens": {"eos_token_id": MANY_ENDS, "min_new_tokens": 6},
    "one seed each": {"seed": [7, 2**31 - 1, 2**20 + 1]},
    "everything": {
        "attention_mask": MASK,
        "temperature": [0, 1, 0.7],
        "top_k": [0, 3, 97],
        "top_p": [0.9, 1.0, 0.5],
        "min_p": 0.02,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": [2, 0, 1],
        "sequence_bias": BIASES,
        "bad_words_ids": BAD_WORDS,
        "suppress_tokens": [2, 33, 96],
        "num_return_sequences": 2,
        "eos_token_id": MANY_ENDS,
        "stop_sequences": [[50], [61, 70]],
        "pad_token_id": 96,
        "min_new_tokens": 3,
    },
}


@pytest.fixture(scope="module", params=[ReferenceLoop, pytest.param(OpenVinoLoop, marks=openvino_is_installed)])
def other(tiny, request):
    """The tiny model in another runtime; one session for all its tests, as a server has it."""
    return request.param(tiny.path, tiny.model.config)


@pytest.fixture(scope="module", params=[pytest.param(OpenVinoLoop, marks=openvino_is_installed)], ids=["OpenVinoLoop"])
def openvino_loop(tiny, request):
    return request.param(tiny.path, tiny.model.config)


@pytest.mark.parametrize("call", FEATURES.values(), ids=list(FEATURES))
def test_another_runtime_gives_the_same_tokens(tiny, other, call):
    call = {"max_new_tokens": 12, "seed": 3, **call}
    expected = tiny.onnx.generate(PROMPTS, **call, return_logprobs=True)
    found = other.generate(PROMPTS, **call, return_logprobs=True)
    np.testing.assert_array_equal(found.tokens, expected.tokens, strict=True)
    close = {"rtol": 0, "atol": LOGPROB_TOLERANCE, "strict": True}
    np.testing.assert_allclose(found.logprobs, expected.logprobs, **close)
    np.testing.assert_allclose(found.raw_logprobs, expected.raw_logprobs, **close)
    np.testing.assert_array_equal(other.generate(PROMPTS, **call), expected.tokens, strict=True)


def test_the_features_show_in_the_tokens(tiny):
    """What has no effect on these prompts would be compared in vain."""
    found = [tiny.onnx.generate(PROMPTS, **{"max_new_tokens": 12, "seed": 3, **call}) for call in FEATURES.values()]
    assert len({(*tokens.shape, *tokens.ravel()) for tokens in found}) == len(FEATURES)


def test_calls_of_changing_shapes_do_not_disturb_each_other(tiny, other):
    """A runtime may keep buffers of the last call; one that made fewer trips than that must not show them."""
    generator = np.random.default_rng(0)
    for seed in range(40):
        prompts, length, candidates = generator.integers(1, [4, 12, 4])
        ids = generator.integers(0, 97, (prompts, length))
        call = {"max_new_tokens": int(generator.choice([1, 2, 9])), "num_return_sequences": int(candidates)}
        expected = tiny.onnx.generate(ids, **call, seed=seed)
        np.testing.assert_array_equal(other.generate(ids, **call, seed=seed), expected, strict=True)


@pytest.mark.parametrize("seed", [2**31 - 3, 2**31 - 1, 2**31, 2**32 - 3], ids=hex)
def test_seeds_of_32_bits_are_exact_on_every_runtime(tiny, other, seed):
    expected = tiny.onnx.generate(PROMPTS, max_new_tokens=8, seed=seed)
    np.testing.assert_array_equal(other.generate(PROMPTS, max_new_tokens=8, seed=seed), expected)


def test_the_reference_evaluator_takes_seeds_of_63_bits(tiny):
    call = {"max_new_tokens": 8, "seed": [2**63 - 1, 2**40 + 5, 2**32]}
    reference = ReferenceLoop(tiny.path, tiny.model.config)
    np.testing.assert_array_equal(reference.generate(PROMPTS, **call), tiny.onnx.generate(PROMPTS, **call))


def test_openvino_knows_the_lower_32_bits_of_a_seed(tiny, openvino_loop):
    """What it does to every int64; when this fails, it has learnt better, and the docs can say so."""
    found = openvino_loop.generate(PROMPTS, max_new_tokens=8, seed=[2**32 + 7, 2**40 + 5, 2**63 - 1])
    expected = tiny.onnx.generate(PROMPTS, max_new_tokens=8, seed=[7, 5, 2**32 - 1])
    np.testing.assert_array_equal(found, expected)


def test_a_trained_model_says_its_text_on_another_runtime(trained, other):
    """With end of text and padding, to the last character."""
    loop = type(other)(trained.path, trained.model.config)
    prompts = ["Four score and seven years", "It is altogether fitting and proper that", "We are met on a great"]
    batch = trained.tokenizer(prompts, padding=True, padding_side="left", return_tensors="np")
    call = {"attention_mask": batch["attention_mask"], "eos_token_id": 0, "max_new_tokens": 40}
    for settings in ({"temperature": 0}, {"num_return_sequences": 3, "temperature": 1.5, "seed": 1}):
        found = loop.generate(batch["input_ids"], **call, **settings)
        np.testing.assert_array_equal(found, trained.onnx.generate(batch["input_ids"], **call, **settings))
