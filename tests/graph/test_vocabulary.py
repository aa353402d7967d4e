"""The draw from a vocabulary of GPT-2's size: every id in reach, and the PyTorch loop's tokens on every runtime.

float32 holds a probability to 2^-24 of it, and two runtimes' exponentials differ by as much. So a number may fall
between the boundaries of two runtimes; the seeds are fixed, and here none does.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from draws import LARGEST_UNIFORM, RUNTIMES, DrawGraph, torch_draw, torch_probabilities

pytestmark = pytest.mark.usefixtures("one_torch_thread")

V = 50_257
STEP = 2.0**-24  # between uniform numbers
SETTINGS = {
    "whole vocabulary": {},
    "all by number": {"top_k": V},
    "top_k 1,000": {"top_k": 1000},
    "top_k 5,000": {"top_k": 5000},
    "top_p": {"top_p": 0.9},
    "top_p of 1,000": {"top_p": 0.9, "top_k": 1000},
    "min_p": {"min_p": 1e-4},
    "min_p and top_p": {"min_p": 1e-5, "top_p": 0.95},
}
SORTED = ("all by number", "top_k 5,000", "top_p", "min_p and top_p")  # whose sorts of the vocabulary take the time
# Of three temperatures: 15,000 draws in ONNX Runtime, 6,000 in OpenVINO and 600 in the reference evaluator.
DRAWS = {"onnxruntime": 1200, "openvino": 450, "reference": 30}
DRAWS_SORTED = {"onnxruntime": 50, "openvino": 50, "reference": 20}


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return DrawGraph(tmp_path_factory.mktemp("vocabulary"))


def random_rows(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [rows, V] and uniform numbers."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 3, (rows, V)).astype(np.float32)
    return logits, (generator.integers(0, 2**24, rows) * STEP).astype(np.float32)


def draw(graph: DrawGraph, runtime: str, logits, uniform, **settings) -> np.ndarray:
    return (
        torch_draw(logits, uniform, **settings)
        if runtime == "torch"
        else graph.draw(runtime, logits, uniform, **settings)
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_are_the_torch_loops(graph, runtime, name):
    """One distribution for each temperature: what the PyTorch loop keeps of it is computed once, for all numbers."""
    settings = SETTINGS[name]
    draws = (DRAWS_SORTED if name in SORTED else DRAWS)[runtime]
    for seed, temperature in enumerate((0.5, 1.0, 2.0)):
        logits, _ = random_rows(1, seed)
        uniform = (np.random.default_rng([seed, 1]).integers(0, 2**24, draws) * STEP).astype(np.float32)
        sums = np.cumsum(torch_probabilities(logits, temperature=temperature, **settings)[0], dtype=np.float64)
        expected = np.searchsorted(sums, uniform * sums[-1], side="right")
        assert torch_draw(logits, uniform[:1], temperature=temperature, **settings)[0] == expected[0]
        for part in range(0, draws, 100):  # so many rows are 20 MB
            numbers = uniform[part : part + 100]
            found = graph.draw(
                runtime, np.tile(logits, (len(numbers), 1)), numbers, temperature=temperature, **settings
            )
            np.testing.assert_array_equal(found, expected[part : part + 100])


@pytest.mark.parametrize("runtime", ["torch", *RUNTIMES])
@pytest.mark.parametrize("peak", [None, 30_000], ids=["flat", "one id of half the probability"])
def test_every_id_above_the_step_of_the_numbers_can_be_drawn(graph, runtime, peak):
    """The number just above the lower boundary of an id draws it, for ids all over the vocabulary."""
    logits = np.random.default_rng(5).normal(0, 2, V)
    if peak is not None:
        logits[peak] = np.log(np.exp(logits).sum())
    exact = np.exp(logits.astype(np.float32).astype(np.float64))
    sums = np.append(0.0, np.cumsum(exact / exact.sum()))
    smallest = np.ceil(sums[:-1] / STEP) * STEP  # the first number at or above the boundary
    # Half a step on either side is float32's rounding of a probability of one half; without a peak it is a hundredth.
    room = 0.5 * STEP if peak is not None else 0.01 * STEP
    sure = np.flatnonzero((smallest - sums[:-1] > room) & (sums[1:] - smallest > room) & (np.diff(sums) > STEP))
    assert len(sure) > 20_000
    ids = np.concatenate([sure[:40], sure[-40:], np.random.default_rng(6).choice(sure, 160, replace=False)])
    found = draw(graph, runtime, np.tile(logits, (len(ids), 1)), smallest[ids])
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize("runtime", ["torch", *RUNTIMES])
@pytest.mark.parametrize("first_block", [False, True])
def test_the_largest_number_draws_the_last_id_that_has_a_probability(graph, runtime, first_block):
    """Even if that is far below all others, and what follows has none; blocks of sums end at 256."""
    logits = np.full((2, V), -np.inf, np.float32)
    last = 255 if first_block else 50_000
    logits[:, : last + 1] = np.random.default_rng(0).normal(0, 1, (2, last + 1))
    found = draw(graph, runtime, logits, np.full(2, LARGEST_UNIFORM))
    assert (found <= last).all()
    assert (found >= last - 2).all()


@pytest.mark.parametrize("runtime", ["torch", *RUNTIMES])
def test_rows_of_all_settings_side_by_side_are_as_alone(graph, runtime):
    logits, uniform = random_rows(6, 11)
    settings = {
        "temperature": [1.0, 0.0, 0.7, 1.0, 2.0, 1.0],
        "top_k": [0, 50, 1000, V, 0, 5],
        "top_p": [1, 1, 0.9, 1.0, 0.9, 1],
    }
    together = draw(graph, runtime, logits, uniform, **settings)
    for row in range(6):
        own = {name: values[row] for name, values in settings.items()}
        assert draw(graph, runtime, logits[[row]], uniform[[row]], **own)[0] == together[row]


def test_top_p_keeps_the_fewest_that_reach_it():
    """Against sums in float64: a float32 sum may be off by a thousand ids here."""
    logits, _ = random_rows(3, 2)
    for top_p in (0.3, 0.9, 0.999):
        kept = (torch_probabilities(logits, top_p=top_p) > 0).sum(1)
        probs = np.sort(torch.from_numpy(logits).double().softmax(-1).numpy())[:, ::-1]
        expected = (np.cumsum(probs, 1) - probs < top_p).sum(1)
        # A sum within 1e-8 of top_p may be on either side.
        assert np.abs(kept - expected).max() <= 1


def test_a_whole_model_of_this_vocabulary_gives_the_torch_loops_tokens(open_tiny):
    tiny = open_tiny(n_layer=1, vocab_size=V)
    prompts = np.random.default_rng(0).integers(0, V, (2, 4))
    for settings in ({"top_k": 0}, {"top_k": V}, {"top_p": 0.9, "top_k": 0}, {"min_p": 0.001, "top_k": 0}):
        call = {"max_new_tokens": 6, "num_return_sequences": 4, "temperature": 1.5, "seed": 1, **settings}
        found = tiny.onnx.generate(prompts, **call)
        np.testing.assert_array_equal(found, tiny.torch.generate(prompts, **call))
