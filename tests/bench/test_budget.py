"""The budget of `gptloop bench`, on a clock that goes on when something is done."""

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptloop import names
from gptloop.bench import measure
from gptloop.bench.measure import bench
from gptloop.bench.table import render


class Clock:
    """A machine on which a model takes so long for 32 tokens of a row."""

    def __init__(self, row_s: float):
        self.now_s, self.row_s = 0.0, row_s
        self.calls: list[tuple[int, int]] = []  # rows and new tokens

    def perf_counter(self) -> float:
        return self.now_s


class SlowLoop:
    metadata = dict.fromkeys((names.META_SOURCE, names.META_WEIGHTS, names.META_PRECISION), "slow")
    flavor, device = "standard", "cpu"
    bounds = SimpleNamespace(n_positions=64, vocab_size=97)

    def __init__(self, clock: Clock, path: Path):
        self._clock, self.path = clock, path
        clock.now_s += 1

    def check(self, ids, **arguments):
        pass

    def generate(self, ids, *, max_new_tokens, num_return_sequences, timeout_s):
        rows = len(ids) * num_return_sequences
        seconds = self._clock.row_s * rows * max_new_tokens / 32
        self._clock.now_s += min(seconds, timeout_s or seconds)
        if timeout_s and seconds > timeout_s:
            raise TimeoutError
        self._clock.calls.append((rows, max_new_tokens))


class SlowMemory:
    def __init__(self, clock: Clock):
        self._clock, self.rounds_s = clock, []
        clock.now_s += measure.MEMORY_S

    def __call__(self):
        self._clock.now_s += 0.1
        self.rounds_s.append(1e-10)


def slow_machine(patched, row_s):
    """Makes one of this machine."""
    clock = Clock(row_s)
    for module in ("measure", "arm", "clock"):
        patched.setattr(f"gptloop.bench.{module}.time", clock)
    patched.setattr("gptloop.bench.clock.gc", Mock())  # with torch about, each collection takes 0.1 s
    patched.setattr(measure, "MOST_ROUNDS", 15)
    patched.setattr(measure, "OnnxLoop", lambda path, **_: SlowLoop(clock, path))
    patched.setattr(measure, "MemoryRead", lambda _: SlowMemory(clock))
    return clock


@given(st.floats(1e-3, 30), st.floats(measure.BUDGET_MIN_S, 120))
def test_no_budget_is_exceeded(tiny, row_s, budget_s):
    with pytest.MonkeyPatch.context() as patched:
        clock = slow_machine(patched, row_s)
        too_little = budget_s < 1 + measure.MEMORY_S + 2.2 * row_s * 33 / 32
        with pytest.raises(ValueError, match="first calls take longer") if too_little else contextlib.nullcontext():
            result = bench(tiny.path, budget_s=budget_s)
        assert clock.now_s <= budget_s
    if not too_little:
        assert result.elapsed_s == clock.now_s
        assert len(result.timings) + len(result.left_out) == 3
        assert {len(timing.rounds_s) for timing in result.timings} == {len(result.timings[0].rounds_s)}


def test_what_the_budget_has_no_room_for_is_left_out(tiny, monkeypatch):
    clock = slow_machine(monkeypatch, 0.4)
    result = bench(tiny.path, budget_s=30)
    assert [timing.workload.rows for timing in result.timings] == [1, 8]
    assert [one.workload.rows for one in result.left_out] == [64]
    assert "its share of budget_s 30" in result.left_out[0].why
    assert "left out: 64 candidates, 32 + 32 tokens" in render(result)
    rounds = len(result.timings[0].rounds_s)
    assert clock.calls.count((8, 32)) == clock.calls.count((8, 1)) == 1 + rounds, "each call once a round"


def test_rounds_go_forwards_then_backwards_and_end_when_there_are_enough(tiny, monkeypatch):
    clock = slow_machine(monkeypatch, 0.001)
    result = bench(tiny.path, budget_s=60)
    assert len(result.timings[0].rounds_s) == measure.MOST_ROUNDS
    first, second = clock.calls[6:12], clock.calls[12:18]
    assert [rows for rows, _ in first] == [1, 1, 8, 8, 64, 64]
    assert [rows for rows, _ in second] == [64, 64, 8, 8, 1, 1]


def test_a_budget_without_room_for_anything_is_an_error(tiny, monkeypatch):
    slow_machine(monkeypatch, 10)
    message = "one row, 32 + 32 tokens: the first calls take longer than 3.18 s, its share of budget_s 10"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bench(tiny.path, budget_s=10)


def test_a_call_that_does_not_fit_into_memory_is_left_out_unless_it_was_asked_for(tiny, monkeypatch):
    monkeypatch.setattr("gptloop.runtime.memory.memory_bytes", lambda: 500_000)
    result = bench(tiny.path)
    assert [one.workload.rows for one in result.left_out] == [64]
    assert "takes at least" in result.left_out[0].why
    with pytest.raises(ValueError, match="num_return_sequences 64 of 1 prompts with max_new_tokens 32 takes at least"):
        bench(tiny.path, num_return_sequences=64)
