"""Where the machine's cores are, as far as a program can tell: how fast its threads read what each other has written.

The host of a virtual machine may put its cores elsewhere from one minute to the next, as these times suggest: two of
them next to each other behind one cache, apart behind two, or as the two hardware threads of one core. Calls of many
small operators feel that.

Knows torch's threads; nothing of what is measured beside.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

THREAD_BYTES = 1 << 19  # what each thread writes in a pass: it stays in the cache of its core
PASSES = 100  # of either kind, in about 10 ms


class CorePass(NamedTuple):
    """Median seconds of one parallel pass over a small buffer."""

    own_s: float  # each thread reads what it wrote itself in the pass before
    exchanged_s: float  # each thread reads as much from every other as from itself


def core_pass() -> CorePass:
    """Measure now; with one thread, both passes are the same."""
    threads = torch.get_num_threads()
    # Torch gives each thread one entry of the output's first axis.
    x = torch.ones(threads, threads, THREAD_BYTES // 4 // threads)
    y = torch.empty_like(x)
    return CorePass(own_s=_median_s(x, y, lambda z: z), exchanged_s=_median_s(x, y, lambda z: z.transpose(0, 1)))


def _median_s(x: torch.Tensor, y: torch.Tensor, read: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Of passes there and back."""
    times = []
    for _ in range(PASSES // 2):
        start = time.perf_counter()
        torch.add(read(x), 1.0, out=y)
        torch.add(read(y), -1.0, out=x)
        times.append((time.perf_counter() - start) / 2)
    return statistics.median(times)
