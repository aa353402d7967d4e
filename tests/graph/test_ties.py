"""Equal logits: one rule, the same on every runtime and in the PyTorch loop.

By rank, lower ids come first, so that top_k keeps exactly k and top_p the fewest that reach it, as many as Hugging
Face. min_p keeps by value, all or none of equal ones.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from draws import RUNTIMES, DrawGraph, torch_draw, torch_probabilities
from hypothesis import given
from hypothesis import strategies as st
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EVERYWHERE = ["torch", *RUNTIMES]
everywhere = pytest.mark.parametrize("runtime", EVERYWHERE)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return DrawGraph(tmp_path_factory.mktemp("ties"))


def draw(graph: DrawGraph, runtime: str, logits, uniform, **settings) -> np.ndarray:
    logits, uniform = np.asarray(logits, np.float32), np.asarray(uniform, np.float32)
    return (
        torch_draw(logits, uniform, **settings)
        if runtime == "torch"
        else graph.draw(runtime, logits, uniform, **settings)
    )


def drawn_from(graph: DrawGraph, runtime: str, logits: np.ndarray, **settings) -> list[int]:
    """All ids that an even grid of numbers draws; each has more than a 400th of the probability."""
    grid = (np.arange(400) + 0.5) / 400
    return sorted(set(draw(graph, runtime, np.tile(logits, (len(grid), 1)), grid, **settings).tolist()))


def kept_by_rule(logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> np.ndarray:
    """The rule in float64, one row: bool [V]."""
    order = np.argsort(-logits, kind="stable")[: top_k or None]
    weights = np.exp((logits[order] - logits.max()).astype(np.float64) / np.float32(temperature))
    before = (np.cumsum(weights) - weights) / weights.sum()
    kept = (before < top_p * (1 - 1e-6)) | (top_p == 1)
    kept &= weights >= min_p * (1 - 1e-6)
    return np.isin(np.arange(len(logits)), order[kept])


@everywhere
@pytest.mark.parametrize(("top_p", "kept"), [(0.5, 10), (1e-6, 1), (0.05, 1), (0.1, 2), (0.3, 6), (0.501, 11), (1, 20)])
@pytest.mark.parametrize("top_k", [0, 20])
def test_of_twenty_equal_ids_top_p_keeps_the_fewest_that_reach_it(graph, runtime, top_p, kept, top_k):
    assert drawn_from(graph, runtime, np.zeros(20), top_p=top_p, top_k=top_k) == list(range(kept))


@everywhere
@pytest.mark.parametrize("V", [20, 97, 500])
@pytest.mark.parametrize("top_k", [1, 2, 7, 16])
def test_top_k_keeps_exactly_k_the_lower_ids_of_equal_ones(graph, runtime, V, top_k):
    logits = np.random.default_rng(V).integers(0, 3, V)
    expected = sorted(np.argsort(-logits, kind="stable")[:top_k].tolist())
    assert drawn_from(graph, runtime, logits, top_k=top_k) == expected


@everywhere
@pytest.mark.parametrize("neighbour", [0, 5, 16, 50, 97])
def test_a_rows_own_top_k_is_cut_alike_beside_any_other(graph, runtime, neighbour):
    """Beyond the largest top_k of the call, within it, and beside the whole vocabulary, where greedy is a row too."""
    generator = np.random.default_rng(neighbour)
    logits = generator.integers(0, 4, (200, 97))
    top_k = np.array([3, 7, 12, 1, neighbour] * 40)
    temperature = np.array([1, 1, 2, 0, 1] * 40)
    uniform = generator.random(200)
    found = draw(graph, runtime, logits, uniform, top_k=top_k, temperature=temperature)
    for row in range(200):
        k = 1 if temperature[row] == 0 else top_k[row] or None
        ids = np.sort(np.argsort(-logits[row], kind="stable")[:k])
        weights = np.exp(logits[row][ids] / (temperature[row] or 1))
        sums = np.cumsum(weights) / weights.sum()
        if np.abs(sums[:-1] - uniform[row]).min(initial=1) > 1e-6:
            assert found[row] == ids[np.searchsorted(sums, uniform[row], side="right")]


@everywhere
@pytest.mark.parametrize("neighbour", [1, 0, 50, 97])
def test_greedy_takes_the_lowest_of_equal_maxima(graph, runtime, neighbour):
    generator = np.random.default_rng(0)
    logits = generator.integers(0, 3, (60, 97))
    top_k = np.where(np.arange(60) % 3 == 2, neighbour, 50)
    temperature = np.where(np.arange(60) % 3 == 2, 1, 0)
    found = draw(graph, runtime, logits, generator.random(60), top_k=top_k, temperature=temperature)
    greedy = temperature == 0
    np.testing.assert_array_equal(found[greedy], logits.argmax(1)[greedy])


@given(
    seed=st.integers(0, 10**6),
    V=st.sampled_from([5, 20, 61, 97]),
    levels=st.integers(1, 6),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 3, 16, 60, 97]),
    top_p=st.sampled_from([0.0317, 0.2871, 0.6133, 0.9219, 1.0]),
    min_p=st.sampled_from([0.0, 0.0531, 0.3777, 1.0]),
)
def test_as_many_are_kept_as_hugging_face_keeps(graph, seed, V, levels, temperature, top_k, top_p, min_p):
    """top_p after an exact top_k: HF's top_k keeps all that equal the k-th, so the order of ids decides before it."""
    top_k = min(top_k, V)
    logits = np.random.default_rng(seed).integers(0, levels, V).astype(np.float32)
    expected = kept_by_rule(logits, temperature, top_k, top_p, min_p)
    found = torch_probabilities(logits[None], temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)[0] > 0
    np.testing.assert_array_equal(found, expected)
    scores = torch.from_numpy(logits)[None] / temperature
    if top_k:
        threshold = TopKLogitsWarper(top_k)(None, scores)
        inside = np.isin(np.arange(V), np.argsort(-logits, kind="stable")[:top_k])
        assert set(np.flatnonzero(inside)) <= set(np.flatnonzero(threshold[0] > -torch.inf))
        scores = scores.masked_fill(~torch.from_numpy(inside), -torch.inf)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(None, scores)
    assert found.sum() == int((scores > -torch.inf).sum())


@pytest.mark.parametrize("runtime", RUNTIMES)
@given(seed=st.integers(0, 10**6), levels=st.integers(1, 6), V=st.sampled_from([20, 97, 300]))
def test_all_settings_at_once_draw_the_torch_loops_ids(graph, runtime, seed, levels, V):
    generator = np.random.default_rng(seed)
    rows = 12
    logits = generator.integers(0, levels, (rows, V))
    settings = {
        "temperature": generator.choice([0, 0.5, 1, 2], rows),
        "top_k": np.minimum(generator.choice([0, 1, 3, 16, 50, 97, 300], rows), V),
        "top_p": generator.choice([0.0317, 0.2871, 0.6133, 0.9219, 1.0], rows),
        "min_p": generator.choice([0.0, 0.0531]),
    }
    uniform = (generator.integers(0, 2**24, rows) * 2.0**-24).astype(np.float32)
    expected = draw(graph, "torch", logits, uniform, **settings)
    np.testing.assert_array_equal(draw(graph, runtime, logits, uniform, **settings), expected)
