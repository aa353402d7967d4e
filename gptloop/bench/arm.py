"""A workload that is timed: its prompts, its first calls, and its rounds.

Knows the runtime and the clock; not the other workloads.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gptloop.bench.clock import timed
from gptloop.bench.workload import Workload
from gptloop.runtime.onnx_loop import OnnxLoop


class Budget:
    """Seconds from now on."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._start = time.perf_counter()

    @property
    def used_s(self) -> float:
        return time.perf_counter() - self._start

    @property
    def left_s(self) -> float:
        return self.seconds - self.used_s


@dataclass
class Arm:
    """A workload with its prompts.

    Attributes:
        first_s: Of its first call for one token, and of its first whole one.
        rounds_s: Of the whole call, in each round; likewise `ttft_rounds_s`.
    """

    loop: OnnxLoop
    workload: Workload
    first_s: Sequence[float] = ()
    rounds_s: list[float] = field(default_factory=list)
    ttft_rounds_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        shape = (self.workload.prompts, self.workload.prompt_len)
        self._ids = np.random.default_rng(0).integers(self.loop.bounds.vocab_size, size=shape)

    def check(self) -> None:
        """Raise a ValueError where the model cannot do it."""
        R, N = self.workload.num_return_sequences, self.workload.max_new_tokens
        self.loop.check(self._ids, max_new_tokens=N, num_return_sequences=R)

    def warm(self, within_s: float) -> None:
        """The first calls.

        Raises:
            TimeoutError: If they take longer.
        """
        budget = Budget(within_s)
        lengths = (1, self.workload.max_new_tokens)
        self.first_s = [timed(functools.partial(self._call, N, budget)) for N in lengths]

    def round(self) -> None:
        """Time the whole call, and the call for one token."""
        self.rounds_s.append(timed(lambda: self._call(self.workload.max_new_tokens)))
        self.ttft_rounds_s.append(timed(lambda: self._call(1)))

    def _call(self, new_tokens: int, budget: Budget | None = None) -> None:
        if budget and budget.left_s <= 0:
            raise TimeoutError
        self.loop.generate(
            self._ids,
            max_new_tokens=new_tokens,
            num_return_sequences=self.workload.num_return_sequences,
            timeout_s=budget.left_s if budget else None,
        )
