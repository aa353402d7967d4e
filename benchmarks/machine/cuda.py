"""What a GPU is capable of, and how much of its memory is used: measured with torch, where there is one.

The speeds are the largest share of the peak that simple work reaches on this very machine. Knows no contender.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

from gptloop.checkpoint.checkpoint import TORCH_TYPES

COPY_BYTES = 1 << 30  # far beyond a GPU's caches
SIDE = 8192  # of the square matrices: large enough to fill every multiprocessor
REPEATS = 10


def used_bytes(device: str) -> int | None:
    """Memory of the GPU that is in use, by everybody; None on the CPU.

    Runtimes keep what they have allocated, so that this does not fall below a contender's peak.
    """
    if device != "cuda":
        return None
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def growth(before: int | None, device: str) -> int | None:
    """By how much `used_bytes` has grown since; None on the CPU."""
    now = used_bytes(device)
    return None if now is None or before is None else max(0, now - before)


@functools.cache
def bandwidth_bytes_per_s(device: str = "cuda", copy_bytes: int = COPY_BYTES) -> float:
    """Of reading and writing memory, both counted, in the best of several copies."""
    source = torch.empty(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * copy_bytes / _best_s(lambda: target.copy_(source), device)


@functools.cache
def flops_per_s(precision: str, device: str = "cuda", side: int = SIDE) -> float:
    """Of a square matrix product, in the best of several; float32 without TensorFloat-32, as everybody here."""
    a, b = (torch.randn(side, side, device=device, dtype=TORCH_TYPES[precision]) for _ in range(2))
    return 2 * side**3 / _best_s(lambda: a @ b, device)


def _best_s(call: Callable[[], Any], device: str) -> float:
    times_s = []
    for _ in range(REPEATS + 1):  # the first one warms up
        times_s.append(_timed_s(call, device))
    return min(times_s[1:])


def _timed_s(call: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
