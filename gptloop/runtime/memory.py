"""What memory a call takes at least, and what the machine has: a call that cannot fit is refused before it starts.

Knows the sizes of a model and of the system; runs nothing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptloop.runtime.request import Request

# Where a container's limit stands, by version of Linux's control groups.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
HALVES = ("fp16", "bf16")  # whose KV cache is in half precision, too
HALF_BYTES, FLOAT32_BYTES, INT64_BYTES = 2, 4, 8
CANDIDATE_BYTES = 200  # of Python objects for one result, without its tokens


def check_memory(request: Request, config: Mapping[str, Any], precision: str) -> None:
    """Refuse a call that takes more memory than there is.

    Args:
        request: The call.
        config: The model's configuration.
        precision: The file's, and so the KV cache's.

    Raises:
        ValueError: Naming the sizes of the call, what it takes at least and what there is.
    """
    number_bytes = HALF_BYTES if precision in HALVES else FLOAT32_BYTES
    needed, available = bytes_at_least(request, config, number_bytes), memory_bytes()
    if needed > available:
        raise ValueError(
            f"num_return_sequences {request.num_return_sequences} of {len(request.input_ids)} prompts with "
            f"max_new_tokens {request.max_new_tokens} takes at least {needed / 1e9:,.1f} GB (keys, values and logits), "
            f"this machine has {available / 1e9:,.1f} GB"
        )


def bytes_at_least(request: Request, config: Mapping[str, Any], number_bytes: int) -> int:
    """What the KV cache, one step's logits, the tokens and the random numbers take, if all rows end when they may."""
    B, P = request.input_ids.shape
    S, N = B * request.num_return_sequences, request.max_new_tokens
    surely = N
    if request.may_end:  # a stop sequence may come before min_new_tokens
        surely = 1 if request.has_stop_sequences else max(1, request.min_new_tokens)
    positions = B * P + S * (surely - 1)
    cache = 2 * config["n_layer"] * config["n_embd"] * positions * number_bytes
    logits = S * config["vocab_size"] * FLOAT32_BYTES
    return cache + logits + S * surely * INT64_BYTES + S * N * FLOAT32_BYTES


def check_results(candidates: int, new_tokens: int) -> None:
    """Refuse more candidates of one prompt than there is memory to hold once they are generated; as `check_memory`."""
    needed, available = candidates * (CANDIDATE_BYTES + new_tokens * INT64_BYTES), memory_bytes()
    if needed > available:
        raise ValueError(
            f"num_return_sequences {candidates} with max_new_tokens {new_tokens} takes at least {needed / 1e9:,.1f} GB "
            f"to hold, this machine has {available / 1e9:,.1f} GB"
        )


@functools.cache
def memory_bytes() -> int:
    """The machine's memory, or the container's share of it."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in LIMITS:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(limits)
