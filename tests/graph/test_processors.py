"""What changes logits before the draw, on random logits: Hugging Face's processors, in the order of its generate.

As a graph of its own, with prompts padded on the left; Hugging Face processes each row alone, without padding.
"""

from __future__ import annotations

import functools
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, GPT2LMHeadModel

from gptloop import names
from gptloop.graph.call import Call, per_row
from gptloop.graph.logits import Logits
from gptloop.graph.processors import Processors
from gptloop.reference import processors as reference
from gptloop.runtime.feeds import feeds
from gptloop.runtime.request import Request, check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

V = 13  # few, so that random texts repeat themselves
BOUNDS = SimpleNamespace(vocab_size=V, n_positions=64)
INPUTS = {
    names.INPUT_IDS: ("INT64", ["S", "P"]),
    names.ATTENTION_MASK: ("INT64", ["S", "P"]),
    names.MIN_NEW_TOKENS: ("INT64", [1]),
    names.REPETITION_PENALTY: ("FLOAT", ["S"]),
    names.NO_REPEAT_NGRAM_SIZE: ("INT64", ["S"]),
    names.SEQUENCE_BIAS_IDS: ("INT64", [1, "Q", "W"]),
    names.SEQUENCE_BIAS: ("FLOAT", [1, "Q"]),
    names.EOS_TOKEN_IDS: ("INT64", [1, "M"]),
}
ids = st.integers(0, V - 1)
a_sequence = st.lists(ids, min_size=1, max_size=4)
tokens = st.lists(ids, min_size=1, max_size=20)


@pytest.fixture(scope="module")
def graph(small_graph):
    """Processors as a graph: logits [S, V] of a scale [S, 1], generated tokens [S, T] -> logits [S, V]."""

    def trace(op, logits, scale, generated, *values):
        inputs = dict(zip(INPUTS, values, strict=True))
        one = op.Constant(value_ints=[1])
        to_rows = functools.partial(per_row, op, Call(B=op.Shape(scale, start=0, end=1), R=one, P=one, N=one))
        processors = Processors.read(op, inputs, to_rows(inputs[names.EOS_TOKEN_IDS]), 0, to_rows)
        step = op.Squeeze(op.Shape(generated, start=1, end=2), [0])
        found = processors.apply(op, Logits(logits, scale), step, (generated,)).scaled(op)
        return [found, processors.needed(op, step)]

    first = {"logits": ("FLOAT", ["S", "V"]), "scale": ("FLOAT", ["S", 1]), "generated": ("INT64", ["S", "T"])}
    return small_graph(trace, first | INPUTS, ["FLOAT", "BOOL"])


def hugging_face(text: list[int], prompt_len: int, logits: np.ndarray, settings: dict) -> np.ndarray:
    """One row's logits [V] after the processors that generate would apply, in its order.

    By the method that makes them, so that their order is its own; the settings of what samples are off.
    """
    given = {name: value for name, value in settings.items() if value}
    if "sequence_bias" in given:
        given["sequence_bias"] = [[[*ids], bias] for ids, bias in given["sequence_bias"].items()]
    config = GenerationConfig(**given, do_sample=False)
    eos = given.get("eos_token_id")
    config._eos_token_tensor = None if eos is None else torch.tensor(eos)
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=False))
    model._merge_criteria_processor_list = lambda own, _: own
    processors = GPT2LMHeadModel._get_logits_processor(model, config, input_ids_seq_length=prompt_len)
    return processors(torch.tensor([text]), torch.from_numpy(logits)[None].clone())[0].numpy()


@st.composite
def calls(draw):
    """A call of one to three prompts, what its rows have generated, and random logits."""
    rows, T = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    prompts = draw(st.lists(tokens, min_size=rows, max_size=rows))
    P = max(map(len, prompts))
    per_prompt = lambda values: draw(st.lists(st.sampled_from(values), min_size=rows, max_size=rows))  # noqa: E731
    settings = {
        "repetition_penalty": per_prompt([1.0, 1.7, 0.6]),
        "no_repeat_ngram_size": per_prompt([0, 1, 2, 3, 40]),
        "sequence_bias": draw(
            st.none() | st.dictionaries(a_sequence.map(tuple), st.sampled_from([-inf, -2.5, 0.3, 8.0]), min_size=1)
        ),
        "bad_words_ids": draw(st.none() | st.lists(a_sequence, min_size=1, max_size=4)),
        "suppress_tokens": draw(st.none() | st.lists(ids, min_size=1, max_size=4)),
        "min_new_tokens": draw(st.integers(0, 12)),
        "eos_token_id": draw(st.none() | st.lists(ids, min_size=1, max_size=2)),
    }
    input_ids = [[7] * (P - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (P - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    request = check_request(BOUNDS, input_ids, attention_mask=mask, max_new_tokens=12, **settings)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    return request, settings, generator.integers(0, V, (rows, T)), generator.normal(0, 3, (rows, V)).astype(np.float32)


def expected_of(request: Request, settings: dict, generated: np.ndarray, logits: np.ndarray) -> np.ndarray:
    rows = []
    for row, prompt in enumerate(request.input_ids):
        text = prompt[request.attention_mask[row] == 1].tolist()
        own = {name: settings[name][row] for name in ("repetition_penalty", "no_repeat_ngram_size")}
        rows.append(hugging_face([*text, *generated[row].tolist()], len(text), logits[row], {**settings, **own}))
    return np.array(rows)


def run(graph, runtime: str, request: Request, generated: np.ndarray, logits: np.ndarray, scale: np.ndarray):
    given = {name: value for name, value in feeds(request).items() if name in INPUTS}
    return getattr(graph, runtime)(logits=logits, scale=scale, generated=generated, **given)


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@given(call=calls())
def test_the_graphs_are_hugging_faces(graph, runtime, call):
    """To the last bit: the same numbers are added, multiplied and divided in the same order."""
    request, _, generated, logits = call
    expected = expected_of(*call)
    found, needed = run(graph, runtime, request, generated, logits, np.ones((len(logits), 1), np.float32))
    np.testing.assert_array_equal(found, expected)
    assert needed or (expected == logits).all()


@given(call=calls())
def test_those_of_logits_with_a_scale_are_those_of_the_logits(graph, call):
    """As int8 has them; a scale rounds."""
    request, _, generated, logits = call
    scale = np.float32(np.linspace(0.01, 3, len(logits)))[:, None]
    found, _ = run(graph, "onnxruntime", request, generated, logits / scale, scale)
    np.testing.assert_allclose(found, expected_of(*call), rtol=1e-5, atol=1e-5)


@given(call=calls())
def test_the_torch_loops_are_hugging_faces(call):
    request, _, generated, logits = call
    rows = reference.Processors(request, torch.device("cpu"), torch.arange(len(logits)))
    found = rows.apply(torch.from_numpy(logits), list(torch.from_numpy(generated).T))
    np.testing.assert_array_equal(found.numpy(), expected_of(*call))
