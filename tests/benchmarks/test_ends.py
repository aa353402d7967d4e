"""Rows that end early: for every contender after as many tokens, by ids that it draws itself."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.cases import Case
from benchmarks.measuring.ends import check_ends, ending, row_lengths
from benchmarks.measuring.measure import measure
from benchmarks.measuring.saved import extra_info
from benchmarks.workloads import ENDING, Workload
from gptloop.reference.bounds import BOUNDS, ParityError

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROWS = Workload("3x1-ends", "3 rows", 3, 1, prompt_len=40, max_new_tokens=20, row_ends=(2, 4, 6))


class Drawing:
    """A contender that draws these tokens."""

    def __init__(self, tokens):
        self.tokens = np.array(tokens)

    def generate(self, ids, workload, *, max_new_tokens, greedy=False):
        return self.tokens[:, :max_new_tokens]


def test_the_ids_that_end_rows_are_drawn_there_for_the_first_time():
    tokens = [[1, 2, 3, 4, 5, 6], [7, 7, 7, 7, 7, 8], [1, 9, 2, 10, 11, 12]]  # 7 and 2 end rows too early
    found = ending(Drawing(tokens), np.zeros((3, 1)), ROWS)
    lengths = row_lengths(np.array(tokens), found.eos_token_ids)
    assert sorted(lengths) == [2, 4, 6]
    assert lengths[1] == 6
    assert replace(found, eos_token_ids=()) == ROWS


def test_rows_that_nothing_ends_in_time_have_no_parity():
    with pytest.raises(ParityError, match=r"no ids end the rows after \(2, 4, 6\) tokens"):
        ending(Drawing(np.ones((3, 6), np.int64)), np.zeros((3, 1)), ROWS)


@pytest.mark.parametrize(("tokens", "words"), [([[1, 9], [9, 9]], "[1, 2] tokens in 2"), ([[1, 9, 9]], "[2] tokens")])
def test_rows_that_end_elsewhere_have_no_parity(tokens, words):
    workload = replace(ROWS, row_ends=(2,) * len(tokens), eos_token_ids=(9,))
    with pytest.raises(ParityError) as error:
        check_ends(np.array(tokens), workload)
    assert words in str(error.value)
    check_ends(np.array([[1, 9], [2, 9]]), replace(workload, row_ends=(2, 2)))


def test_every_contender_of_a_case_has_as_many_tokens_to_draw(tiny, files, monkeypatch):
    # 45 tokens of this model are too few to tell int8's quality by: 2.6 % was seen.
    monkeypatch.setitem(BOUNDS, "int8", BOUNDS["int8"]._replace(perplexity_change=0.1))
    names = ("torch", "hf_generate", "onnx_step", "onnx", "onnx_int8")
    case = Case("tiny", ROWS, rounds=2, alone_rounds=1, contenders=names)
    found = measure(case, names, files, tiny.model.config, device="cpu", threads=1, say=lambda _: None)
    assert found["hf_generate"].absent == "it draws random numbers of its own, so that its rows would end elsewhere"
    for name in ("torch", "onnx_step", "onnx", "onnx_int8"):
        one = found[name]
        assert one.passed, one.parity
        assert len(one.eos_token_ids) == 3
        info = extra_info(case, name, one, one.parity)
        total_s = statistics.median(one.rounds_s)
        assert info["tokens_per_s"] == pytest.approx((2 + 4 + 6) / total_s)
        assert info["time_per_output_token_s"] == pytest.approx((total_s - info["ttft_s"]) / 5)
        assert (info["max_new_tokens"], info["row_ends"]) == (20, (2, 4, 6))
        assert len(info["alone_rounds_s"]) == 1
    assert found["onnx"].eos_token_ids == found["onnx_step"].eos_token_ids == found["torch"].eos_token_ids


def test_the_grids_rows_end_before_the_call_would():
    assert len(ENDING.row_ends) == ENDING.rows
    assert ENDING.steps < ENDING.max_new_tokens
    assert ENDING.tokens_per_row == 22
