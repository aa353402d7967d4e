"""What a process has taken of the memory, how fast this machine reads it, and how much of it a step has to read.

Knows memory and a model file's tensors; not what is computed.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gptloop.bench.clock import timed
from gptloop.model_file import ModelFile, external_tensors, graphs
from gptloop.runtime.huge_pages import on_huge_pages

BUFFER_BYTES = 1 << 29  # many times the last-level cache of the servers at hand (32 MiB to 256 MiB)
READS = 5
PARTLY_READ_BY = ("Gather", "Slice")  # of what they are given, they read a part
HANDS_ON = ("If", "Loop")


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
    """Reading memory as fast as so many threads can.

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
        self.rounds_s.append(min(timed(self._read) for _ in range(READS)) / BUFFER_BYTES)


@functools.cache
def fastest_read(threads: int) -> Callable[[], object]:
    """A reduction of a large buffer: of several, the fastest one here. Found once in a process."""
    with on_huge_pages():
        buffer = np.ones(BUFFER_BYTES // 8, np.int64)
    pool = ThreadPoolExecutor(threads, "memory-read")  # numpy lets go of the interpreter's lock meanwhile

    def by(reduce: Callable[[Any], object], dtype: type) -> Callable[[], object]:
        parts: list[Any] = np.array_split(buffer.view(dtype), threads)
        return lambda: list(pool.map(reduce, parts))

    reads = [by(np.max, np.int32), by(np.max, np.float32), by(np.add.reduce, np.int64)]
    return min(reads, key=lambda read: min(timed(read) for _ in range(READS)))


def step_weight_bytes(file: ModelFile) -> int:
    """Bytes of the weights that each step of one row has to read: all but the embeddings, of which it reads a row.

    An embedding that is the LM head, too, is read whole. What several graphs name is counted once.
    """
    proto = file.proto
    read = {
        name
        for graph in graphs(proto.graph)
        for node in graph.node
        if node.op_type not in HANDS_ON
        for name in node.input[node.op_type in PARTLY_READ_BY :]
    }
    stored = {tensor.proto.name: tensor for tensor in external_tensors(file.path, proto)}
    inline = {
        tensor.name: len(tensor.raw_data)
        for graph in graphs(proto.graph)
        for tensor in graph.initializer
        if tensor.name not in stored
    }
    places = {(one.location, one.offset): one.length for name, one in stored.items() if name in read}
    return sum(places.values()) + sum(size for name, size in inline.items() if name in read)
