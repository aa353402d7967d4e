"""The benchmarks: every contender of every case, as ordinary pytest-benchmark tests.

The rounds of a case are measured once, interleaved (benchmarks.measuring). Each contender's test then hands its own
rounds to pytest-benchmark through a clock that shows the measured times, so that what is saved and compared by
pytest-benchmark's own means is what was measured, and round i of one contender pairs with round i of another.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.cases import Case
from benchmarks.measuring.measurement import Measurement
from gptloop.metrics import time_per_output_token_s, tokens_per_s
from gptloop.reference.parity import Parity, ParityError

SCHEMA = 1
NOT_MEASURED = (
    "nothing is measured: pytest-benchmark is off, by --benchmark-disable or because pytest-xdist (-n) runs tests "
    "beside each other, where each slows the others"
)


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
    if benchmark.disabled:
        pytest.skip(NOT_MEASURED)
    measured = measurements(case)[contender]
    if measured.absent:
        pytest.skip(measured.absent)
    if isinstance(measured.parity, ParityError):
        raise measured.parity
    benchmark.group = case.group
    benchmark.extra_info.update(extra_info(case, contender, measured, measured.parity))
    clock.replay(benchmark, measured.rounds_s)


def extra_info(case: Case, contender: str, measured: Measurement, parity: Parity) -> dict[str, Any]:
    """What the saved run says of a contender besides its rounds; seconds and bytes."""
    w = case.workload
    rows = w.prompts * w.num_return_sequences
    total_s, ttft_s = statistics.median(measured.rounds_s), statistics.median(measured.ttft_rounds_s)
    return {
        "schema": SCHEMA,
        "size": case.size,
        "workload": w.id,
        "workload_title": w.title,
        "contender": contender,
        "precision": measured.precision,
        "weights": measured.weights,
        "device": measured.device,
        "prompts": w.prompts,
        "prompt_len": w.prompt_len,
        "num_return_sequences": w.num_return_sequences,
        "max_new_tokens": w.max_new_tokens,
        "temperature": w.temperature,
        "top_k": w.top_k,
        "ttft_rounds_s": measured.ttft_rounds_s,
        "ttft_s": ttft_s,
        "time_per_output_token_s": time_per_output_token_s(total_s, ttft_s, w.max_new_tokens),
        "tokens_per_s": tokens_per_s(total_s, rows, w.max_new_tokens),
        "load_s": measured.alone.get("load_s", measured.load_s),
        # On a GPU, the device's; elsewhere the process's.
        "peak_memory_bytes": measured.device_bytes or measured.alone.get("peak_memory_bytes"),
        "alone_rounds_s": measured.alone.get("rounds_s", []),
        **ceiling_info(measured),
        **early_info(case, measured, ttft_s),
        **cores_info(measured),
        **({"step_counts": measured.step.to_dict()} if measured.step else {}),
        "parity": {"check": measured.check, "rows": parity.rows, "excused_rows": parity.excused_rows},
    }


def ceiling_info(measured: Measurement) -> dict[str, Any]:
    """Both floors of the call; its ceiling is the higher one. Nothing where they were not measured."""
    if not measured.floors:
        return {}
    kind = max(measured.floors, key=lambda kind: statistics.median(measured.floors[kind].rounds_s))
    return {
        "ceiling_kind": kind,
        "ceiling_rounds_s": measured.floors[kind].rounds_s,
        "ceiling_ttft_rounds_s": measured.floors[kind].ttft_rounds_s,
        **{f"{name}_rounds_s": floor.rounds_s for name, floor in measured.floors.items()},
    }


def early_info(case: Case, measured: Measurement, ttft_s: float) -> dict[str, Any]:
    """Time per output token over the first tokens, where the case asks for it."""
    if not measured.early_rounds_s:
        return {}
    early_s = statistics.median(measured.early_rounds_s)
    return {
        "early_tokens": case.early_tokens,
        "early_rounds_s": measured.early_rounds_s,
        "early_time_per_output_token_s": time_per_output_token_s(early_s, ttft_s, case.early_tokens),
    }


def cores_info(measured: Measurement) -> dict[str, Any]:
    """Where the cores were before and after each call: pairs of `cores.CorePass`, by kind of pass."""
    return {
        "own_passes_s": [[before.own_s, after.own_s] for before, after in measured.cores],
        "exchanged_passes_s": [[before.exchanged_s, after.exchanged_s] for before, after in measured.cores],
    }
