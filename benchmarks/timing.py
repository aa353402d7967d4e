"""Clocks: one timed call, and many interleaved. Knows nothing of what is called."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call, the garbage collector held back."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    finally:
        gc.enable()


def interleave(arms: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time every arm once a round, forwards then backwards (A B C, C B A, ...), so that drift meets all alike.

    Returns:
        Seconds by arm; entry i of every list was measured in round i.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    for round_ in range(rounds):
        for name in list(arms) if round_ % 2 == 0 else reversed(list(arms)):
            times[name].append(timed(arms[name]))
    return times
