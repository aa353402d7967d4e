"""Threefry-2x32-20 in numpy and as ONNX operators: the published answers, and each against the other."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from gptloop.graph import call
from gptloop.graph.threefry import Word, threefry2x32, uniform
from gptloop.runtime import threefry

ONES = 0xFFFFFFFF

# Random123's kat_vectors for threefry2x32, 20 rounds, which JAX's tests quote too: counter, key, result.
KNOWN_ANSWERS = {
    "zeros": ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    "ones": ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
    "pi": ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
}
known_answer = pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS.values(), ids=list(KNOWN_ANSWERS))
seeds = st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4).map(lambda values: np.array(values, np.int64))
sizes = st.integers(1, 5)


def limbs(words) -> list[np.ndarray]:
    """Each word's upper and lower 16 bits, as int32 [1]."""
    return [np.array([limb], np.int32) for word in words for limb in (word >> 16, word & 0xFFFF)]


@pytest.fixture(scope="module")
def threefry_graph(small_graph):
    def trace(op, *limbs):
        key0, key1, counter0, counter1 = (Word(*limbs[i : i + 2]) for i in range(0, 8, 2))
        x0, x1 = threefry2x32(op, (key0, key1), (counter0, counter1))
        return [*x0, *x1]

    return small_graph(trace, {f"limb_{i}": ("INT32", [1]) for i in range(8)}, ["INT32"] * 4)


@pytest.fixture(scope="module")
def uniforms_graph(small_graph):
    def trace(op, seed, R, N):
        return [call.uniforms(op, seed, call.Call(B=op.Shape(seed), R=R, P=None, N=N))]

    inputs = {"seed": ("INT64", ["B"]), "R": ("INT64", [1]), "N": ("INT64", [1])}
    return small_graph(trace, inputs, ["FLOAT"])


def rows_by_step(numbers_BRN: np.ndarray) -> np.ndarray:
    """[B, R, N] -> [N, B * R, 1], the graph's layout."""
    return numbers_BRN.reshape(-1, numbers_BRN.shape[2]).T[:, :, None]


@known_answer
def test_numpy_gives_the_known_answers(counter, key, expected):
    as_arrays = [tuple(np.array([word], np.uint32) for word in words) for words in (key, counter)]
    assert [int(word[0]) for word in threefry.threefry2x32(*as_arrays)] == list(expected)


@known_answer
@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_the_graph_gives_the_known_answers_bit_for_bit(threefry_graph, runtime, counter, key, expected):
    feeds = {f"limb_{i}": limb for i, limb in enumerate(limbs([*key, *counter]))}
    assert getattr(threefry_graph, runtime)(**feeds) == limbs(expected)


@given(seed=seeds, candidates=sizes, steps=sizes)
def test_the_graph_draws_the_numbers_of_the_numpy_version(uniforms_graph, seed, candidates, steps):
    (drawn,) = uniforms_graph.onnxruntime(seed=seed, R=np.array([candidates]), N=np.array([steps]))
    np.testing.assert_array_equal(drawn, rows_by_step(threefry.uniforms(seed, candidates, steps)), strict=True)


def test_the_reference_evaluator_draws_the_same_numbers(uniforms_graph):
    seed = np.array([0, 1, 2**32 - 1, 2**32, 2**62 + 3, 2**63 - 1])
    (drawn,) = uniforms_graph.reference(seed=seed, R=np.array([3]), N=np.array([4]))
    np.testing.assert_array_equal(drawn, rows_by_step(threefry.uniforms(seed, 3, 4)), strict=True)


def test_counts_above_16_bits_are_counted_in_both_limbs(uniforms_graph):
    seed, many = np.array([7]), 2**16 + 3
    (drawn,) = uniforms_graph.onnxruntime(seed=seed, R=np.array([many]), N=np.array([1]))
    np.testing.assert_array_equal(drawn, rows_by_step(threefry.uniforms(seed, many, 1)), strict=True)
    (drawn,) = uniforms_graph.onnxruntime(seed=seed, R=np.array([1]), N=np.array([many]))
    np.testing.assert_array_equal(drawn, rows_by_step(threefry.uniforms(seed, 1, many)), strict=True)


@given(seed=st.integers(0, 2**63 - 1), candidate=st.integers(0, 40), step=st.integers(0, 40))
def test_a_number_is_the_first_words_upper_24_bits(seed, candidate, step):
    """The key is the seed, low word first; the counter is (candidate, step)."""
    key = np.uint32(seed & ONES), np.uint32(seed >> 32)
    with np.errstate(over="ignore"):  # numpy warns where uint32 scalars wrap round, not where arrays do
        word, _ = threefry.threefry2x32(key, (np.uint32(candidate), np.uint32(step)))
    number = threefry.uniforms(np.array([seed]), candidate + 1, step + 1)[0, candidate, step]
    assert float(number) == (int(word) >> 8) / 2**24


def test_numbers_are_multiples_of_2_to_the_minus_24_from_0_to_below_1():
    numbers = threefry.uniforms(np.array([0, 2**63 - 1]), 100, 100)
    assert numbers.dtype == np.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert (np.float64(numbers) * 2**24 % 1 == 0).all()


def test_the_largest_word_still_gives_a_number_below_1(small_graph):
    graph = small_graph(
        lambda op, hi, lo: [uniform(op, Word(hi, lo))], {"hi": ("INT32", [1]), "lo": ("INT32", [1])}, ["FLOAT"]
    )
    (number,) = graph.onnxruntime(hi=np.array([0xFFFF], np.int32), lo=np.array([0xFFFF], np.int32))
    assert number.tolist() == [1 - 2.0**-24]


def test_numbers_differ_between_prompts_candidates_and_steps():
    # 240 numbers of 2^24: two of them would be equal by chance once in 600 seeds, and these seeds are fixed.
    numbers = threefry.uniforms(np.array([0, 1, 2**32, 2**32 + 1]), 6, 10)
    assert len(np.unique(numbers)) == numbers.size


def test_a_number_does_not_depend_on_how_many_are_drawn():
    many = threefry.uniforms(np.array([3, 4, 5]), 7, 9)
    np.testing.assert_array_equal(threefry.uniforms(np.array([4]), 2, 3), many[1:2, :2, :3])


def test_numbers_are_uniform():
    """Kolmogorov-Smirnov over prompts, candidates and steps; fixed seeds, so it cannot fail by chance later."""
    numbers = threefry.uniforms(np.arange(20), 50, 50).ravel()
    assert scipy.stats.kstest(numbers, "uniform").pvalue > 0.001
