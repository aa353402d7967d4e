"""What a prompt's tokens depend on, in both loops: its seed and settings, not its neighbours."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3], [90, 2, 77, 31, 31]])


@pytest.fixture(params=["onnx", "torch"])
def loop(tiny, request):
    return getattr(tiny, request.param)


@pytest.mark.parametrize("neighbour_top_k", [50, 1, 0], ids=lambda k: f"neighbour's top_k {k}")
def test_a_prompts_tokens_do_not_depend_on_its_neighbours(loop, neighbour_top_k):
    call = {"max_new_tokens": 15, "num_return_sequences": 3}
    alone = loop.generate(PROMPTS[1:2], seed=7, temperature=0.9, top_k=20, **call)
    together = loop.generate(
        PROMPTS,
        seed=[1, 7, 2],
        temperature=[2.0, 0.9, 0],
        top_k=[neighbour_top_k, 20, 3],
        **call,
    )
    np.testing.assert_array_equal(together[3:6], alone)


def test_a_whole_vocabulary_prompt_does_not_depend_on_its_neighbours(loop):
    alone = loop.generate(PROMPTS[:1], max_new_tokens=15, top_k=0, seed=3)
    together = loop.generate(PROMPTS, max_new_tokens=15, top_k=[0, 2, 50], seed=3)
    np.testing.assert_array_equal(together[:1], alone)


def test_a_candidates_tokens_do_not_depend_on_how_many_are_asked_for(loop):
    few = loop.generate(PROMPTS, max_new_tokens=12, num_return_sequences=2).reshape(3, 2, 12)
    many = loop.generate(PROMPTS, max_new_tokens=12, num_return_sequences=5).reshape(3, 5, 12)
    np.testing.assert_array_equal(few, many[:, :2])


def test_fewer_new_tokens_are_the_start_of_more(loop):
    more = loop.generate(PROMPTS, max_new_tokens=20, num_return_sequences=2)
    for max_new_tokens in (1, 2, 7):
        fewer = loop.generate(PROMPTS, max_new_tokens=max_new_tokens, num_return_sequences=2)
        np.testing.assert_array_equal(fewer, more[:, :max_new_tokens])


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others(loop):
    first = loop.generate(PROMPTS, max_new_tokens=12, seed=5)
    np.testing.assert_array_equal(loop.generate(PROMPTS, max_new_tokens=12, seed=5), first)
    assert (loop.generate(PROMPTS, max_new_tokens=12, seed=50) != first).any(1).all()


def test_seeds_differ_in_their_high_words_too(loop):
    first = loop.generate(PROMPTS, max_new_tokens=12, seed=5)
    assert (loop.generate(PROMPTS, max_new_tokens=12, seed=5 + 2**32) != first).any(1).all()


def test_a_single_seed_counts_up_over_the_prompts(loop):
    counted = loop.generate(PROMPTS, max_new_tokens=12, seed=2**63 - 3)
    given_ = loop.generate(PROMPTS, max_new_tokens=12, seed=[2**63 - 3, 2**63 - 2, 2**63 - 1])
    np.testing.assert_array_equal(counted, given_)


def test_one_prompt_with_two_seeds_gives_two_texts(loop):
    twice = loop.generate(PROMPTS[[0, 0]], max_new_tokens=12, seed=0)
    assert (twice[0] != twice[1]).any()


def test_candidates_of_one_prompt_are_adjacent_and_differ(loop):
    rows = loop.generate(PROMPTS, max_new_tokens=12, num_return_sequences=2, seed=[4, 5, 6])
    for prompt, seed in enumerate([4, 5, 6]):
        alone = loop.generate(PROMPTS[[prompt]], max_new_tokens=12, num_return_sequences=2, seed=seed)
        np.testing.assert_array_equal(rows[2 * prompt : 2 * prompt + 2], alone)
        assert (alone[0] != alone[1]).any()


def test_greedy_ignores_seed_and_top_k_and_gives_equal_candidates(loop):
    greedy = loop.generate(PROMPTS, max_new_tokens=12, temperature=0, num_return_sequences=2)
    np.testing.assert_array_equal(greedy[::2], greedy[1::2])
    other = loop.generate(PROMPTS, max_new_tokens=12, temperature=0, num_return_sequences=2, seed=9, top_k=0)
    np.testing.assert_array_equal(greedy, other)


@pytest.mark.parametrize(
    ("prompts", "candidates", "new_tokens"), [(1, 1, 1), (1, 1, 4), (1, 3, 1), (3, 1, 1), (3, 2, 4)]
)
def test_the_result_is_int64_with_a_row_for_each_candidate(loop, prompts, candidates, new_tokens):
    tokens = loop.generate(PROMPTS[:prompts], max_new_tokens=new_tokens, num_return_sequences=candidates)
    assert isinstance(tokens, np.ndarray)
    assert (tokens.shape, tokens.dtype) == ((prompts * candidates, new_tokens), np.int64)
    assert tokens.min() >= 0
    assert tokens.max() < 97


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.uint64])
def test_ids_of_any_integer_type_are_taken(loop, dtype):
    expected = loop.generate(PROMPTS, max_new_tokens=3)
    np.testing.assert_array_equal(loop.generate(PROMPTS.astype(dtype), max_new_tokens=3), expected)
    np.testing.assert_array_equal(loop.generate(PROMPTS.tolist(), max_new_tokens=3), expected)
    np.testing.assert_array_equal(loop.generate(np.asfortranarray(PROMPTS), max_new_tokens=3), expected)


def test_arrays_of_any_strides_are_taken(loop):
    """Also of one column, which numpy calls contiguous whatever its strides are."""
    for ids in (PROMPTS, PROMPTS[:, :1], PROMPTS[:1]):
        mask = np.ones_like(ids)
        expected = loop.generate(ids[:, ::-1].tolist(), max_new_tokens=3)
        np.testing.assert_array_equal(
            loop.generate(ids[:, ::-1], attention_mask=mask[:, ::-1], max_new_tokens=3), expected
        )
        flipped = loop.generate(ids[::-1], attention_mask=mask[::-1], max_new_tokens=3)
        np.testing.assert_array_equal(flipped, loop.generate(ids[::-1].tolist(), max_new_tokens=3))


def test_the_defaults_sample_among_fifty_at_temperature_1(loop):
    expected = loop.generate(PROMPTS, max_new_tokens=9, num_return_sequences=1, temperature=1.0, top_k=50, seed=0)
    np.testing.assert_array_equal(loop.generate(PROMPTS, max_new_tokens=9), expected)
