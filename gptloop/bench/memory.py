"""What a process has taken of the memory, how fast this machine reads it, and how much of it a step has to read.

Knows memory and a model file's tensors; not what is computed.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gptloop.model_file import ModelFile, graphs
from gptloop.model_file.tensors import tensor_bytes
from gptloop.runtime.huge_pages import on_huge_pages

BUFFER_BYTES = 1 << 29  # many times the last-level cache of the servers at hand (32 MiB to 256 MiB)
READS = 5
READING_A_PART = ("Gather", "Slice")  # of their first input


def peak_memory_bytes(pid: int | str = "self") -> int | None:
    """The largest resident set of a process so far; None where the system does not tell.

    Not getrusage's ru_maxrss: across fork and exec that keeps the parent's.
    """
    status = Path(f"/proc/{pid}/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text() if status.exists() else "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MemoryRead:
    """Reading memory as fast as so many threads can: threads and buffer are given back with this object.

    Args:
        threads: How many.

    Attributes:
        rounds_s: Seconds to read one byte, the best of `READS`, in each run so far.
    """

    def __init__(self, threads: int) -> None:
        self._read = fastest_read(threads)
        self.rounds_s: list[float] = []

    def __call__(self) -> None:
        """Read the buffer."""
        self.rounds_s.append(_least_s(self._read) / BUFFER_BYTES)


def fastest_read(threads: int) -> Callable[[], object]:
    """A reduction of a large buffer: of several, the fastest one here."""
    with on_huge_pages():
        buffer = np.ones(BUFFER_BYTES // 8, np.int64)
    pool = ThreadPoolExecutor(threads, "memory-read")  # numpy lets go of the interpreter's lock meanwhile

    def by(reduce: Callable[[Any], object], dtype: type) -> Callable[[], object]:
        parts: list[Any] = np.array_split(buffer.view(dtype), threads)
        return lambda: list(pool.map(reduce, parts))

    reads = [by(np.max, np.int32), by(np.max, np.float32), by(np.add.reduce, np.int64)]
    return min(reads, key=_least_s)


def _least_s(read: Callable[[], object]) -> float:
    """Seconds, the least of `READS`: so whatever came between, of the garbage collector too, does not count."""
    times_s = []
    for _ in range(READS):
        start = time.perf_counter()
        read()
        times_s.append(time.perf_counter() - start)
    return min(times_s)


def step_weight_bytes(file: ModelFile) -> int:
    """Bytes of the weights that each step of one row has to read: all but the embeddings, of which it reads a row.

    An embedding that is the LM head, too, is read whole.
    """
    read_whole = {
        name
        for graph in graphs(file.proto.graph)
        for node in graph.node
        for name in (node.input[1:] if node.op_type in READING_A_PART else node.input)
    }
    weights = file.proto.graph.initializer  # the prefill, which reads what a step reads, names them so
    return sum(tensor_bytes(file.path, tensor) for tensor in weights if tensor.name in read_whole)
