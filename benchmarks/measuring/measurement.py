"""What is measured, and what is then known of it. Knows no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.cases import Case
from benchmarks.contenders import Files, Tokens
from benchmarks.machine.cores import CorePass
from benchmarks.machine.cuda_trace import Counts
from benchmarks.measuring.ceiling import LowerBound
from benchmarks.workloads import Workload
from gptloop.reference.bounds import ParityError
from gptloop.reference.parity import Parity

Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """A case on a machine.

    Attributes:
        case: The case.
        files: The size on disk, in the case's precision.
        config: Its GPT2Config.
        ids: The prompts.
        device: "cpu" or "cuda".
        threads: Threads of a product, for every contender.
        say: Takes one line of progress at a time.
    """

    case: Case
    files: Files
    config: Any
    ids: Tokens
    device: str
    threads: int
    say: Say


@dataclass
class Measurement:
    """What is known of one contender in one case; times in seconds, one per round.

    Attributes:
        device: "cpu" or "cuda".
        weights: "pretrained" or "random, seed S".
        load_s: From files on disk to ready, in the measuring process.
        absent: Why the contender cannot run here, if it cannot.
        check: What its parity check compared.
        parity: The outcome, or why it failed, and then there are no times.
        rounds_s: The whole call.
        ttft_rounds_s: The same call with one new token.
        early_rounds_s: The same call with the case's `early_tokens`, if it has any, next to the whole call of the same
            round: the mean of several.
        cores: Where the cores were right before and right after the whole call, for each round.
        lower_bounds: On the time of the call, by kind, where the case asks for it.
        step: What a decode step makes a GPU do, where the case asks for it.
        precision: In which the contender runs.
        eos_token_ids: What ends its rows, where the case's rows end early.
        device_bytes: By how much loading and the first call made the GPU's used memory grow; None on the CPU.
        alone: What the contender's own process printed.
    """

    device: str
    weights: str
    load_s: float = 0.0
    absent: str = ""
    check: str = "baseline"
    parity: Parity | ParityError = field(default_factory=lambda: ParityError("not checked"))
    rounds_s: list[float] = field(default_factory=list)
    ttft_rounds_s: list[float] = field(default_factory=list)
    early_rounds_s: list[float] = field(default_factory=list)
    cores: list[tuple[CorePass, CorePass]] = field(default_factory=list)
    lower_bounds: dict[str, LowerBound] = field(default_factory=dict)
    step: Counts | None = None
    precision: str = "fp32"
    eos_token_ids: tuple[int, ...] = ()
    device_bytes: int | None = None
    alone: dict[str, Any] = field(default_factory=dict)

    def called(self, workload: Workload) -> Workload:
        """The workload as the contender is called with it: with what ends its rows."""
        return replace(workload, eos_token_ids=self.eos_token_ids)

    @property
    def passed(self) -> bool:
        return isinstance(self.parity, Parity)
