"""The draw: what may be drawn, with which probability, and that graph and TorchLoop follow one rule.

Hugging Face's logits processors and softmax are the oracle of the distribution.
"""

from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from draws import hugging_face_probabilities
from hypothesis import given
from hypothesis import strategies as st
from idle import idle_processing

from gptloop.graph import sampling
from gptloop.graph.logits import Logits
from gptloop.reference.sampling import Sampler
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

V = 97
BOUNDS = SimpleNamespace(vocab_size=V, n_positions=64)
LARGEST_UNIFORM = 1 - 2.0**-24
settings_of_a_row = st.tuples(st.sampled_from([0, 1, 2, 50, V - 1, V]), st.floats(0.125, 5, width=32))


@pytest.fixture(scope="module")
def graph_sampler(small_graph):
    """sampling.sample as a graph of its own: logits [S, V], uniform [S, 1], temperature [S], top_k [S] -> ids [S]."""

    def trace(op, logits, uniform, temperature, top_k):
        off = {"top_p": op.Constant(value_floats=[1.0]), "min_p": op.Constant(value_floats=[0.0])}
        settings = sampling.settings(
            op,
            temperature=temperature,
            top_k=top_k,
            **off,
            return_logprobs=op.Cast(op.Constant(value_ints=[0]), to=ir.DataType.BOOL),
            to_rows=lambda per_row: op.Unsqueeze(op.Expand(per_row, op.Shape(temperature)), [1]),
        )
        return [sampling.sample(op, Logits(logits), uniform, settings, idle_processing(op)).token]

    inputs = {
        "logits": ("FLOAT", ["S", "V"]),
        "uniform": ("FLOAT", ["S", 1]),
        "temperature": ("FLOAT", ["S"]),
        "top_k": ("INT64", ["S"]),
    }
    return small_graph(trace, inputs, ["INT64"])


def random_logits(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (rows, V)).astype(np.float32)


def torch_sampler(rows: int, *, temperature, top_k) -> Sampler:
    request = check_request(
        BOUNDS,
        np.zeros((rows, 1), np.int64),
        max_new_tokens=1,
        num_return_sequences=1,
        temperature=temperature,
        top_k=top_k,
        seed=0,
    )
    return Sampler(request, torch.device("cpu"))


def kept_probabilities(sampler: Sampler, logits: np.ndarray) -> np.ndarray:
    """Sampler.kept as probabilities over the whole vocabulary."""
    ids, probs = sampler.kept(torch.from_numpy(logits))
    return (probs if ids is None else torch.zeros(logits.shape).scatter(1, ids, probs)).numpy()


def draw(graph, logits, *, uniform, temperature, top_k, runtime="onnxruntime") -> np.ndarray:
    rows = len(logits)
    feeds = {
        "logits": logits.astype(np.float32),
        "uniform": np.broadcast_to(np.float32(uniform), rows)[:, None].copy(),
        "temperature": np.broadcast_to(np.float32(temperature), rows).copy(),
        "top_k": np.broadcast_to(np.int64(top_k), rows).copy(),
    }
    return getattr(graph, runtime)(**feeds)[0]


def inverse_cdf(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """The id at which the running sum over ascending ids first exceeds each number."""
    return np.searchsorted(np.cumsum(probabilities), uniform, side="right")


def far_from_boundaries(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    # float32 sums of up to 97 probabilities are off by less than 97 * 2^-24 = 6e-6.
    return np.abs(np.cumsum(probabilities) - uniform[:, None]).min(1) > 6e-6


@given(rows=st.lists(settings_of_a_row, min_size=1, max_size=4))
def test_the_torch_loop_draws_from_hugging_faces_distribution(rows):
    """Per prompt its own temperature and top_k, whether or not a neighbour keeps the whole vocabulary."""
    top_k, temperature = zip(*rows, strict=True)
    logits = random_logits(len(rows))
    kept = kept_probabilities(torch_sampler(len(rows), temperature=temperature, top_k=top_k), logits)
    for row in range(len(rows)):
        expected = hugging_face_probabilities(logits[[row]], temperature[row], top_k[row])[0]
        # float32: a logit over the temperature is up to 100, off by 100 * 2^-24 = 6e-6, and so is its exponential.
        np.testing.assert_allclose(kept[row], expected, rtol=3e-5, atol=1e-37)
        assert not kept[row][expected == 0].any()


@pytest.mark.parametrize("whole_neighbour", [False, True], ids=["top_k rows only", "beside a whole vocabulary"])
@given(setting=settings_of_a_row, seed=st.integers(0, 999))
def test_the_graph_draws_from_hugging_faces_distribution(graph_sampler, whole_neighbour, setting, seed):
    """Over an even grid of uniform numbers, the ids drawn are the inverse of Hugging Face's running sum."""
    top_k, temperature = setting
    grid = (np.arange(400) + 0.5) / 400
    logits = np.repeat(random_logits(1, seed), len(grid) + 1, axis=0)
    drawn = draw(
        graph_sampler,
        logits,
        uniform=np.append(grid, 0.5),
        temperature=temperature,
        top_k=np.append(np.full(len(grid), top_k), 0 if whole_neighbour else top_k),
    )[:-1]
    probabilities = hugging_face_probabilities(logits[:1], temperature, top_k)[0]
    clear = far_from_boundaries(probabilities, grid)
    assert clear.sum() > 300
    np.testing.assert_array_equal(drawn[clear], inverse_cdf(probabilities, grid)[clear])


def test_every_row_follows_its_own_settings(graph_sampler):
    """Greedy, top-1, top-5 and the whole vocabulary side by side, with temperatures of their own."""
    temperature, top_k = [0, 1, 0.5, 2.0, 1.0], [0, 1, 5, 0, V]
    logits, uniform = random_logits(5, seed=3), np.array([0.3, 0.9, 0.6, 0.7, 0.2])
    drawn = draw(graph_sampler, logits, uniform=uniform, temperature=temperature, top_k=top_k)
    assert drawn[:2].tolist() == logits[:2].argmax(1).tolist()
    for row in range(2, 5):
        probabilities = hugging_face_probabilities(logits[[row]], temperature[row], top_k[row])[0]
        assert drawn[row] == inverse_cdf(probabilities, uniform[[row]])[0]


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize("neighbour_top_k", [0, 1, 5])
def test_greedy_takes_the_lowest_id_among_equal_logits(graph_sampler, runtime, neighbour_top_k):
    logits = np.zeros((4, V))
    logits[1, [40, 41, 90]] = 2
    logits[2, [96, 95]] = 1
    drawn = draw(
        graph_sampler,
        logits,
        uniform=LARGEST_UNIFORM,
        temperature=[0, 0, 0, 1],
        top_k=[50, 50, 50, neighbour_top_k],
        runtime=runtime,
    )
    assert drawn[:3].tolist() == [0, 40, 95]


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_top_k_keeps_the_lower_ids_among_equal_logits(graph_sampler, runtime):
    logits = np.zeros((1, V))
    logits[0, 50] = 0.1
    drawn = [
        draw(graph_sampler, logits, uniform=uniform, temperature=1, top_k=3, runtime=runtime)[0]
        for uniform in (0, 0.5, LARGEST_UNIFORM)
    ]
    assert drawn == [0, 1, 50]


@pytest.mark.parametrize("neighbour_top_k", [0, 1, 5])
def test_the_torch_loop_is_greedy_by_the_lowest_id_among_equal_logits(neighbour_top_k):
    """As the graph, so that a model of equal logits gives the same tokens in both."""
    logits = torch.zeros(2, V)
    logits[0, [40, 41, 90]] = 2
    sampler = torch_sampler(2, temperature=[0, 1], top_k=[50, neighbour_top_k])
    assert sampler.draw(logits, 0)[0] == 40


def test_the_torch_loop_keeps_the_lower_ids_among_equal_logits():
    logits = np.zeros((1, V), np.float32)
    logits[0, 50] = 0.1
    kept = kept_probabilities(torch_sampler(1, temperature=1, top_k=3), logits)
    assert np.flatnonzero(kept).tolist() == [0, 1, 50]


def likely_and_never(likely: list[int]) -> np.ndarray:
    """Logits [1, V] that give the likely ids all probability: exp(-300) is 0 in float32."""
    logits = np.full((1, V), -300, np.float32)
    logits[0, likely] = 0
    return logits


@pytest.mark.parametrize("top_k", [0, 3, 50, V])
@pytest.mark.parametrize("uniform", [0.0, 2.0**-24, 0.5, LARGEST_UNIFORM])
@pytest.mark.parametrize("likely", [[0], [96], [40], [3, 5, 60]], ids=str)
def test_an_id_of_probability_zero_is_never_drawn(graph_sampler, likely, uniform, top_k):
    drawn = draw(graph_sampler, likely_and_never(likely), uniform=uniform, temperature=1, top_k=top_k)
    assert drawn[0] in likely


@given(seed=st.integers(0, 999), top_k=st.integers(1, V), temperature=st.floats(0.0625, 5, width=32))
def test_the_largest_number_draws_a_kept_id_however_sums_are_rounded(graph_sampler, seed, top_k, temperature):
    """Whether the branch masks the rest of the vocabulary or never sees it."""
    logits = random_logits(2, seed)
    kept = set(np.argsort(-logits[0])[:top_k])
    for neighbour_top_k in (0, top_k):
        drawn = draw(
            graph_sampler,
            logits,
            uniform=LARGEST_UNIFORM,
            temperature=temperature,
            top_k=[top_k, neighbour_top_k],
        )
        assert drawn[0] in kept


def test_the_torch_loop_never_draws_an_id_of_probability_zero():
    for top_k in (0, 3, 50, V):
        for likely in ([0], [96], [3, 5, 60]):
            sampler = torch_sampler(1, temperature=1, top_k=top_k)
            for uniform in (0.0, LARGEST_UNIFORM):
                sampler._uniforms = torch.full((1, 1, 1), uniform)
                assert int(sampler.draw(torch.from_numpy(likely_and_never(likely)), 0)[0]) in likely
