"""The benchmarks: every contender of every case, as ordinary pytest-benchmark tests.

The rounds of a case are measured once, interleaved (benchmarks.measuring). Each contender's test then hands its own
rounds to pytest-benchmark through a clock that shows the measured times, so that what is saved and compared by
pytest-benchmark's own means is what was measured, and round i of one contender pairs with round i of another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import Case
from benchmarks.measuring.measurement import Measurement
from benchmarks.measuring.saved import extra_info
from gptloop.reference.bounds import ParityError


class RecordedClock:
    """A timer that shows recorded durations: 0 before a round, its seconds after it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def replay(self, benchmark: BenchmarkFixture, rounds_s: Sequence[float]) -> None:
        """Let pytest-benchmark time these rounds."""
        pending = iter(rounds_s)

        def reset() -> None:
            self.now_s = 0.0

        def pass_time() -> None:
            self.now_s = next(pending)

        benchmark.pedantic(pass_time, setup=reset, rounds=len(rounds_s))


clock = RecordedClock()


@pytest.mark.benchmark(timer=clock)
def test_generate(
    case: Case,
    contender: str,
    measurements: Callable[[Case], dict[str, Measurement]],
    benchmark: BenchmarkFixture,
) -> None:
    """A contender whose tokens are not the baseline's fails, and has no time; one that cannot run here is skipped."""
    measured = measurements(case)[contender]
    if measured.absent:
        pytest.skip(measured.absent)
    if isinstance(measured.parity, ParityError):
        raise measured.parity
    benchmark.group = case.group
    benchmark.extra_info.update(extra_info(case, contender, measured, measured.parity))
    clock.replay(benchmark, measured.rounds_s)
