"""How fast a generate call could be on this machine: its matrix products alone, and its weights' way from memory.

- Products: `benchmarks.measuring.products`, those with weights, then all of them.
- Bandwidth: each pass reads every matrix once. The time for that is the matrices' bytes over the bandwidth of reading
  a buffer far larger than the caches, by the same number of threads, by whichever of several reductions is fastest.

Knows contenders by their names and exported files only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring.products import AttentionProducts, Call, Products
from benchmarks.timing.clocks import timed
from benchmarks.workloads import Workload
from gptloop.runtime.huge_pages import on_huge_pages

BUFFER_BYTES = 1 << 29  # many times the last-level cache of the servers at hand (32 MiB to 256 MiB)
READS = 5
ATTENTION, MEMORY = "attention's products", "memory"

Times = Mapping[str, list[float]]


class MemoryRead:
    """Reading memory as fast as torch's threads can.

    Attributes:
        rounds_s: Seconds to read one byte, the best of `READS`, in each run so far.
    """

    def __init__(self) -> None:
        self._read = fastest_read()
        self.rounds_s: list[float] = []

    def __call__(self) -> None:
        """Read the buffer."""
        self.rounds_s.append(min(timed(self._read) for _ in range(READS)) / BUFFER_BYTES)


@functools.cache
def fastest_read() -> Callable[[], object]:
    """A reduction of a large buffer: of several, the fastest one here. Found once in a process."""
    with on_huge_pages():
        buffer = torch.ones(BUFFER_BYTES // 4)
    reads: list[Callable[[], object]] = [buffer.sum, buffer.amax, functools.partial(torch.dot, buffer, buffer)]
    return min(reads, key=lambda read: min(timed(read) for _ in range(READS)))


@dataclass(frozen=True)
class Floor:
    """What a call cannot be faster than, in seconds, one of each per round.

    Attributes:
        rounds_s: The whole call.
        ttft_rounds_s: Its prefill.
    """

    rounds_s: list[float]
    ttft_rounds_s: list[float]


def floors(products: Floor, attention: Floor, memory: MemoryRead, *, pass_bytes: int, passes: int) -> dict[str, Floor]:
    """The floors of a call, by kind: its products with weights, all its products, its weights' way from memory.

    Args:
        products: As measured, like what follows.
        attention: Attention's products.
        memory: The reads, after the rounds of the whole call.
        pass_bytes: Of the matrices that each pass reads.
        passes: Over the weights: the prefill's, and one for each further token.
    """
    reads_s = [byte_s * pass_bytes for byte_s in memory.rounds_s[-len(products.rounds_s) :]]
    return {
        "products": products,
        "all_products": Floor(
            [sum(pair) for pair in zip(products.rounds_s, attention.rounds_s, strict=True)],
            [sum(pair) for pair in zip(products.ttft_rounds_s, attention.ttft_rounds_s, strict=True)],
        ),
        "bandwidth": Floor([read_s * passes for read_s in reads_s], reads_s),
    }


class Ceiling:
    """What is timed beside a case's contenders on the CPU, and the floors made of it.

    Args:
        exported: The files whose products are timed, by contender.
        config: The model's GPT2Config.
        workload: The call.
        threads: Threads of one product.
    """

    def __init__(self, exported: Mapping[str, Path], config: Any, workload: Workload, threads: int):
        self._products = {name: Products(path, workload, threads) for name, path in exported.items()}
        self._attention = AttentionProducts(config, workload, threads)
        self._memory = MemoryRead()
        self._passes = workload.max_new_tokens

    def whole(self) -> dict[str, Callable[[], object]]:
        """What is timed beside the whole call, by name."""
        return {**self._calls(), MEMORY: self._memory}

    def first(self) -> dict[str, Callable[[], object]]:
        """What is timed beside the call for one token."""
        return {name: call.prefill for name, call in self._calls().items()}

    def floors(self, name: str, whole_s: Times, first_s: Times) -> dict[str, Floor]:
        """A contender's floors, by kind, from the times of both; none for one whose products were not timed."""
        if name not in self._products:
            return {}
        own, attention = (Floor(whole_s[arm], first_s[arm]) for arm in (_arm(name), ATTENTION))
        pass_bytes = self._products[name].pass_bytes
        return floors(own, attention, self._memory, pass_bytes=pass_bytes, passes=self._passes)

    def _calls(self) -> dict[str, Call]:
        return {**{_arm(name): products for name, products in self._products.items()}, ATTENTION: self._attention}


def _arm(name: str) -> str:
    return f"{name} products"
