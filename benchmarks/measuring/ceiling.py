"""How fast a generate call could be on this machine: its matrix products alone, and its weights' way from memory.

- Products: `benchmarks.measuring.products`, those with weights, then all of them.
- Bandwidth: each pass reads every matrix once. The time for that is the matrices' bytes over the bandwidth of reading
  a buffer far larger than the caches, by the same number of threads, by whichever of several reductions is fastest.

Knows contenders by their names and exported files only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring.products import AttentionProducts, Call, Products
from benchmarks.workloads import Workload
from gptloop.bench.memory import MemoryRead

ATTENTION, MEMORY = "attention's products", "memory"

Times = Mapping[str, list[float]]


@dataclass(frozen=True)
class LowerBound:
    """On a call's time, in seconds, one of each per round.

    Attributes:
        rounds_s: The whole call.
        ttft_rounds_s: Its prefill.
    """

    rounds_s: list[float]
    ttft_rounds_s: list[float]


def lower_bounds(
    products: LowerBound, attention: LowerBound, memory: MemoryRead, *, pass_bytes: int, passes: int
) -> dict[str, LowerBound]:
    """On the time of a call, by kind: its products with weights, all its products, its weights' way from memory.

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
        "all_products": LowerBound(
            [sum(pair) for pair in zip(products.rounds_s, attention.rounds_s, strict=True)],
            [sum(pair) for pair in zip(products.ttft_rounds_s, attention.ttft_rounds_s, strict=True)],
        ),
        "bandwidth": LowerBound([read_s * passes for read_s in reads_s], reads_s),
    }


class Ceiling:
    """What is timed beside a case's contenders on the CPU, and the lower bounds made of it.

    Args:
        exported: The files whose products are timed, by contender.
        config: The model's GPT2Config.
        workload: The call.
        threads: Threads of one product.
    """

    def __init__(self, exported: Mapping[str, Path], config: Any, workload: Workload, threads: int):
        self._products = {name: Products(path, workload, threads) for name, path in exported.items()}
        self._attention = AttentionProducts(config, workload, threads)
        self._memory = MemoryRead(threads)
        self._passes = workload.max_new_tokens

    def whole(self) -> dict[str, Callable[[], object]]:
        """What is timed beside the whole call, by name."""
        return {**self._calls(), MEMORY: self._memory}

    def first(self) -> dict[str, Callable[[], object]]:
        """What is timed beside the call for one token."""
        return {name: call.prefill for name, call in self._calls().items()}

    def lower_bounds(self, name: str, whole_s: Times, first_s: Times) -> dict[str, LowerBound]:
        """On a contender's time, by kind, from the times of both; none for one whose products were not timed."""
        if name not in self._products:
            return {}
        own, attention = (LowerBound(whole_s[arm], first_s[arm]) for arm in (_arm(name), ATTENTION))
        pass_bytes = self._products[name].pass_bytes
        return lower_bounds(own, attention, self._memory, pass_bytes=pass_bytes, passes=self._passes)

    def _calls(self) -> dict[str, Call]:
        return {**{_arm(name): products for name, products in self._products.items()}, ATTENTION: self._attention}


def _arm(name: str) -> str:
    return f"{name} products"
