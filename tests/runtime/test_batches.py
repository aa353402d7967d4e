"""Prompts that go through the model together: as cheap as they can be cut, and the same tokens as each alone."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptloop import OnnxLoop, export
from gptloop.runtime import batches
from gptloop.runtime.batches import PROMPT_TOKENS, ROWS, STEP_TOKENS, in_input_order, length_sorted
from gptloop.runtime.completer import Completer

LENGTHS = st.lists(st.integers(1, 1024), min_size=1, max_size=9)


def time_of(cut: list[list[int]], lengths: list[int], new_tokens: int) -> int:
    return sum(len(batch) * max(lengths[number] for number in batch) + STEP_TOKENS * new_tokens for batch in cut)


@given(LENGTHS, st.integers(1, 64), st.integers(1, 500))
def test_no_other_cut_of_the_sorted_prompts_takes_less_time(lengths, candidates, new_tokens):
    """All of them are tried."""
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    possible = []
    for places in itertools.product([False, True], repeat=len(lengths) - 1):
        ends = [0, *(place for place, here in enumerate(places, 1) if here), len(lengths)]
        cut = [order[start:end] for start, end in itertools.pairwise(ends)]
        if all(allowed(batch, lengths, candidates) for batch in cut):
            possible.append(time_of(cut, lengths, new_tokens))
    found = length_sorted(lengths, candidates=candidates, new_tokens=new_tokens)
    assert time_of(found, lengths, new_tokens) == min(possible)


def allowed(batch: list[int], lengths: list[int], candidates: int) -> bool:
    tokens = len(batch) * max(lengths[number] for number in batch)
    return len(batch) == 1 or (len(batch) * candidates <= ROWS and tokens <= PROMPT_TOKENS)


@pytest.mark.parametrize(("candidates", "new_tokens"), [(1, 1), (1, 256), (5, 20), (200, 4)])
def test_every_prompt_is_in_one_batch_that_memory_can_hold(candidates, new_tokens):
    lengths = np.random.default_rng(0).integers(8, 501, 300).tolist()
    cut = length_sorted(lengths, candidates=candidates, new_tokens=new_tokens)
    assert sorted(number for batch in cut for number in batch) == list(range(300))
    assert all(allowed(batch, lengths, candidates) for batch in cut)
    longest = [max(lengths[number] for number in batch) for batch in cut]
    assert longest == sorted(longest, reverse=True)


def test_padding_is_left_out_of_few_new_tokens_and_many_make_large_batches():
    lengths = np.random.default_rng(0).integers(8, 501, 256).tolist()
    few, many = (length_sorted(lengths, candidates=1, new_tokens=new_tokens) for new_tokens in (4, 256))
    assert time_of(few, lengths, 0) < 1.03 * sum(lengths)
    assert time_of(many, lengths, 0) < 1.2 * sum(lengths)
    assert len(many) < len(few) / 2


def test_no_prompts_are_no_batches():
    assert length_sorted([], candidates=1, new_tokens=1) == []
    assert list(in_input_order([], lambda batch: batch)) == []


def test_results_come_in_the_order_of_the_input_and_batches_run_when_they_are_needed():
    ran = []

    def run(batch: list[int]) -> list[str]:
        ran.append(batch)
        return [f"result {number}" for number in batch]

    results = in_input_order([[5, 2], [0, 4], [3, 1]], run)
    assert next(results) == "result 0"
    assert ran == [[0, 4]]
    assert list(results) == [f"result {number}" for number in range(1, 6)]
    assert ran == [[0, 4], [3, 1], [5, 2]]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("rows", [64, 3])
def test_prompts_of_all_lengths_give_what_each_gives_alone(tiny_model, tmp_path, monkeypatch, precision, rows):
    monkeypatch.setattr(batches, "ROWS", rows)
    path = export(tiny_model(n_layer=1), tmp_path / "model.onnx", precision=precision)
    loop = OnnxLoop(path, device="cpu", threads=1)
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 97, length).tolist() for length in random.integers(1, 58, 40)]
    call = {"max_new_tokens": 6, "num_return_sequences": 2, "temperature": 1.5}
    found = Completer(loop).complete(prompts, seed=7, decode=False, **call)
    for number, (ids, candidates) in enumerate(zip(prompts, found, strict=True)):
        alone = loop.generate([ids], seed=7 + number, **call)
        assert [candidate.ids for candidate in candidates] == alone.tolist()
