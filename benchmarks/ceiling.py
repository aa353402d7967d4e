"""How fast a generate call could be on this machine: its matrix products alone, and its weights' way from memory.

- Products: the graph of gptloop.graph.products in ONNX Runtime, with the same threads and the file's own tensors, once
  at the prefill's shapes and once per further token at a decode step's. Inputs and outputs are bound to memory that
  stays in the caches, as activations do.
- Bandwidth: each pass reads every matrix once. The time for that is the matrices' bytes over the bandwidth of reading
  a buffer far larger than the caches, by the same number of threads, by whichever of several reductions is fastest.

Knows no other contender.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch

from benchmarks.cases import Workload
from benchmarks.timing import timed
from gptloop.exporter import read_exported
from gptloop.graph.products import ROWS, build_products, product_bytes
from gptloop.session import open_session, session_options

BUFFER_BYTES = 1 << 29  # many times the last-level cache of the servers at hand (32 MiB to 256 MiB)
READS = 5


class Products:
    """The matrix products of one generate call.

    Args:
        path: The exported file, beside which the graph of its products is written, with the same data file.
        workload: The call.
        threads: Threads of one product.

    Attributes:
        pass_bytes: Of the matrices that each pass reads.
        prefill_rounds_s: Seconds of the prefill's products in each run so far.
    """

    def __init__(self, path: Path, workload: Workload, threads: int):
        exported = read_exported(path)
        file = path.with_name(f"{path.stem}.products.onnx")
        if not file.exists():
            ir.save(build_products(*exported), file)
        self.pass_bytes = product_bytes(exported.config, exported.tensors)
        self.prefill_rounds_s: list[float] = []
        self._session = open_session(file, device="cpu", options=session_options(threads))
        B, S = workload.prompts, workload.prompts * workload.num_return_sequences
        self._prefill, self._decode = self._bind(B * workload.prompt_len, B), self._bind(S, S)
        self._steps = workload.max_new_tokens - 1

    def __call__(self) -> None:
        """All products of one call."""
        start = time.perf_counter()
        self._session.run_with_iobinding(self._prefill)
        self.prefill_rounds_s.append(time.perf_counter() - start)
        for _ in range(self._steps):
            self._session.run_with_iobinding(self._decode)

    def _bind(self, rows: int, last_rows: int) -> ort.IOBinding:
        """Inputs of one shape share their memory, and so do outputs: only the weights differ."""
        rng = np.random.default_rng(0)

        @functools.cache
        def memory(kind: str, height: int, width: int) -> ort.OrtValue:
            return ort.OrtValue.ortvalue_from_numpy(rng.standard_normal((height, width)).astype(np.float32))

        binding = self._session.io_binding()
        for x in self._session.get_inputs():
            height = rows if x.shape[0] == ROWS else last_rows
            binding.bind_ortvalue_input(x.name, memory("input", height, x.shape[1]))
        for y in self._session.get_outputs():
            height = rows if y.shape[0] == ROWS else last_rows
            binding.bind_ortvalue_output(y.name, memory("output", height, y.shape[1]))
        return binding


class MemoryRead:
    """Reading memory as fast as torch's threads can.

    Attributes:
        rounds_s: Seconds to read one byte, the best of `READS`, in each run so far.
    """

    def __init__(self) -> None:
        self._read = _fastest_read()
        self.rounds_s: list[float] = []

    def __call__(self) -> None:
        """Read the buffer."""
        self.rounds_s.append(min(timed(self._read) for _ in range(READS)) / BUFFER_BYTES)


@functools.cache
def _fastest_read() -> Callable[[], object]:
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


def floors(products: Products, products_rounds_s: list[float], memory: MemoryRead, passes: int) -> dict[str, Floor]:
    """Both floors of a call, by kind.

    Args:
        products: After the rounds.
        products_rounds_s: Their times.
        memory: After the rounds.
        passes: Over the weights: the prefill's, and one for each further token.
    """
    rounds = len(products_rounds_s)
    reads_s = [byte_s * products.pass_bytes for byte_s in memory.rounds_s[-rounds:]]
    return {
        "products": Floor(products_rounds_s, products.prefill_rounds_s[-rounds:]),
        "bandwidth": Floor([read_s * passes for read_s in reads_s], reads_s),
    }
