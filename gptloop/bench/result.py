"""What was measured of a file: numbers by name.

Knows seconds and bytes; measures nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from gptloop.bench.workload import Workload
from gptloop.metrics import time_per_output_token_s, tokens_per_s


class Spread(NamedTuple):
    """A quantity over the rounds: of their medians, and the least and the largest of single rounds."""

    median: float
    min: float
    max: float


def spread(rounds: Sequence[float]) -> Spread:
    """Of what was measured itself."""
    return Spread(statistics.median(rounds), min(rounds), max(rounds))


@dataclass(frozen=True)
class Timing:
    """The rounds of one workload; entry i of both lists is of round i.

    Attributes:
        workload: The call.
        rounds_s: Of the whole call.
        ttft_rounds_s: Of the same call for one new token.
    """

    workload: Workload
    rounds_s: Sequence[float]
    ttft_rounds_s: Sequence[float]

    @property
    def time_s(self) -> Spread:
        return spread(self.rounds_s)

    @property
    def ttft_s(self) -> Spread:
        return spread(self.ttft_rounds_s)

    @property
    def time_per_output_token_s(self) -> Spread | None:
        """None where there is no token after the first."""
        N = self.workload.max_new_tokens
        if N == 1:
            return None
        pairs = zip(self.rounds_s, self.ttft_rounds_s, strict=True)
        rounds = [time_per_output_token_s(total_s, ttft_s, N) for total_s, ttft_s in pairs]
        median = time_per_output_token_s(self.time_s.median, self.ttft_s.median, N)
        return Spread(median, min(rounds), max(rounds))

    @property
    def tokens_per_s(self) -> Spread:
        slow, fast = self.time_s.max, self.time_s.min
        rates = (
            tokens_per_s(x, self.workload.rows, self.workload.max_new_tokens) for x in (self.time_s.median, slow, fast)
        )
        return Spread(*rates)

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name."""
        quantities = {
            "time_s": self.time_s,
            "ttft_s": self.ttft_s,
            "time_per_output_token_s": self.time_per_output_token_s,
            "tokens_per_s": self.tokens_per_s,
        }
        return asdict(self.workload) | {name: of and of._asdict() for name, of in quantities.items()}


class LeftOut(NamedTuple):
    """A workload that was not timed, and why."""

    workload: Workload
    why: str


@dataclass(frozen=True)
class Machine:
    """Where it ran, and how fast that reads its memory.

    Attributes:
        device: "cpu" or "cuda".
        threads: Of one product; None for ONNX Runtime's own choice.
        onnxruntime: Its version.
        bandwidth: Bytes per second that the CPU reads; None where it did not compute.
        read_threads: By which that was read.
    """

    device: str
    threads: int | None
    onnxruntime: str
    bandwidth: Spread | None
    read_threads: int


@dataclass(frozen=True)
class Result:
    """All of it.

    Attributes:
        file: The model's name.
        facts: What the file says of itself: source, weights, precision, flavor.
        machine: Where it ran.
        load_s: Opening the file.
        first_ttft_s: TTFT of the first call of all.
        peak_memory_bytes: The process's largest resident set up to the end of the first call of each workload; None
            where the system does not tell.
        step_weight_bytes: That a step of one row has to read.
        timings: Of each workload.
        left_out: For which there was no room.
        budget_s: That was given.
        elapsed_s: That was used.
    """

    file: str
    facts: dict[str, str]
    machine: Machine
    load_s: float
    first_ttft_s: float
    peak_memory_bytes: int | None
    step_weight_bytes: int
    timings: Sequence[Timing]
    left_out: Sequence[LeftOut]
    budget_s: float
    elapsed_s: float

    @property
    def bandwidth_share(self) -> float | None:
        """How fast a step of one row reads its weights, over how fast this machine can; None where neither is known.

        Above 1 where the weights fit into the caches.
        """
        one_row = next((timing for timing in self.timings if timing.workload.rows == 1), None)
        token_s = one_row and one_row.time_per_output_token_s
        if not token_s or not self.machine.bandwidth or token_s.median <= 0:
            return None
        return self.step_weight_bytes / token_s.median / self.machine.bandwidth.median

    def to_dict(self) -> dict[str, Any]:
        """Numbers by name, with the unit in the name; a spread is median, min and max."""
        machine = self.machine
        return {
            "file": self.file,
            **self.facts,
            "device": machine.device,
            "threads": machine.threads,
            "onnxruntime": machine.onnxruntime,
            "load_s": self.load_s,
            "first_ttft_s": self.first_ttft_s,
            "peak_memory_bytes": self.peak_memory_bytes,
            "bandwidth_bytes_per_s": machine.bandwidth and machine.bandwidth._asdict(),
            "step_weight_bytes": self.step_weight_bytes,
            "bandwidth_share": self.bandwidth_share,
            "rounds": len(self.timings[0].rounds_s),
            "workloads": [timing.to_dict() for timing in self.timings],
            "left_out": [asdict(one.workload) | {"why": one.why} for one in self.left_out],
            "budget_s": self.budget_s,
            "elapsed_s": self.elapsed_s,
        }
