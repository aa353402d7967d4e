"""What a GPU is capable of, and how much of its memory is used: measured with torch, where there is one.

The floor of a call is what its weights' way from memory and its products take at the speeds measured here: the largest
share of the peak that simple work reaches on this very machine. Knows no contender.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.cases import Workload
from benchmarks.ceiling import Floor
from gptloop.checkpoint.checkpoint import TORCH_TYPES

COPY_BYTES = 1 << 30  # far beyond a GPU's caches
SIDE = 8192  # of the square matrices: large enough to fill every multiprocessor
REPEATS = 10
VALUE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


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


def floors(
    config: Any, workload: Workload, precision: str, rounds: int, device: str = "cuda", **sizes: int
) -> dict[str, Floor]:
    """What a call cannot be faster than, by kind: its products, and its weights' way from memory.

    Args:
        config: The size's GPT2Config.
        workload: The call.
        precision: "fp32", "fp16" or "bf16".
        rounds: How many times to state it, to stand beside as many rounds.
        device: "cuda"; "cpu" to try it out.
        **sizes: `copy_bytes` and `side`, to try it out.
    """
    D, L = config.n_embd, config.n_layer
    inner = config.n_inner or 4 * D
    block_values = L * (4 * D * D + 2 * D * inner)
    head_values = D * config.vocab_size
    B, S = workload.prompts, workload.prompts * workload.num_return_sequences
    rate = flops_per_s(precision, device, sizes.get("side", SIDE))
    bandwidth = bandwidth_bytes_per_s(device, sizes.get("copy_bytes", COPY_BYTES))
    steps = workload.max_new_tokens - 1
    # The LM head sees the last positions only.
    prefill_s = 2 * (block_values * B * workload.prompt_len + head_values * B) / rate
    step_s = 2 * (block_values + head_values) * S / rate
    read_s = VALUE_BYTES[precision] * (block_values + head_values) / bandwidth
    return {
        "products": Floor([prefill_s + steps * step_s] * rounds, [prefill_s] * rounds),
        "bandwidth": Floor([(steps + 1) * read_s] * rounds, [read_s] * rounds),
    }


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
