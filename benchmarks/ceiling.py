"""How fast a generate call could be on this machine: its matrix products alone, and its weights' way from memory.

- Products: the graphs of gptloop.graph.products in ONNX Runtime, with the same threads and the file's own tensors, once
  at the prefill's shapes and once per further token at a decode step's; with weights and of attention apart, then the
  sum of both. Inputs and outputs are bound to memory that stays in the caches, as activations do; but for K and V, of
  which each layer has its own.
- Bandwidth: each pass reads every matrix once. The time for that is the matrices' bytes over the bandwidth of reading
  a buffer far larger than the caches, by the same number of threads, by whichever of several reductions is fastest.

Knows no other contender.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch

from benchmarks.cases import Workload
from benchmarks.timing import timed
from gptloop.exporter import read_exported
from gptloop.graph.products import (
    BLOCK,
    EARLIER,
    LAST_ROWS,
    PROMPT,
    ROWS,
    build_attention_products,
    build_products,
    product_bytes,
)
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


class AttentionProducts:
    """The matrix products of attention in one generate call, on random numbers.

    Args:
        config: The model's GPT2Config.
        workload: The call.
        threads: Threads of one product.

    Attributes:
        prefill_rounds_s: Seconds of the prefill's products in each run so far.
    """

    def __init__(self, config: Any, workload: Workload, threads: int):
        B, R, P = workload.prompts, workload.num_return_sequences, workload.prompt_len
        trips = workload.max_new_tokens - 1
        block = math.ceil(math.sqrt(trips))  # tokens per block, as gptloop.graph.loop has them
        self.prefill_rounds_s: list[float] = []
        self._prefill, self._decode = (
            open_session(
                ir.to_proto(build_attention_products(config, parts)).SerializeToString(),
                device="cpu",
                options=session_options(threads),
            )
            for parts in ([PROMPT], [PROMPT, EARLIER, BLOCK])
        )
        sizes = {"B": B, "R": R, ROWS: max(P, R), LAST_ROWS: R, f"{PROMPT}_length": P}
        sizes |= {f"{EARLIER}_length": trips, f"{BLOCK}_length": block}
        rng = np.random.default_rng(0)
        self._inputs = {
            x.name: rng.standard_normal(_shape(x, sizes), np.float32)
            for session in (self._prefill, self._decode)
            for x in session.get_inputs()
        }
        self._output = np.empty(max(math.prod(_shape(y, sizes)) for y in self._decode.get_outputs()), np.float32)
        self._prefill_binding = self._bind(self._prefill, sizes | {ROWS: P, LAST_ROWS: 1})
        self._steps = [
            self._bind(
                self._decode,
                sizes | {ROWS: R, f"{EARLIER}_length": t - t % block, f"{BLOCK}_length": t % block + 1},
            )
            for t in range(trips)
        ]

    def __call__(self) -> None:
        """All products of one call."""
        start = time.perf_counter()
        self._prefill.run_with_iobinding(self._prefill_binding)
        self.prefill_rounds_s.append(time.perf_counter() - start)
        for binding in self._steps:
            self._decode.run_with_iobinding(binding)

    def _bind(self, session: ort.InferenceSession, sizes: dict[str, int]) -> ort.IOBinding:
        """Of each input's memory, its start; all outputs share theirs."""
        binding = session.io_binding()
        for x in session.get_inputs():
            binding.bind_input(x.name, "cpu", 0, np.float32, _shape(x, sizes), self._inputs[x.name].ctypes.data)
        for y in session.get_outputs():
            binding.bind_output(y.name, "cpu", 0, np.float32, _shape(y, sizes), self._output.ctypes.data)
        return binding


def _shape(value: ort.NodeArg, sizes: dict[str, int]) -> list[int]:
    return [sizes.get(dim, dim) for dim in value.shape]


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


def floors(
    products: Products,
    products_rounds_s: list[float],
    attention: AttentionProducts,
    attention_rounds_s: list[float],
    memory: MemoryRead,
    passes: int,
) -> dict[str, Floor]:
    """The floors of a call, by kind: its products with weights, all its products, its weights' way from memory.

    Args:
        products: After the rounds, like what follows.
        products_rounds_s: Their times.
        attention: Attention's products.
        attention_rounds_s: Their times.
        memory: The reads.
        passes: Over the weights: the prefill's, and one for each further token.
    """
    rounds = len(products_rounds_s)
    reads_s = [byte_s * products.pass_bytes for byte_s in memory.rounds_s[-rounds:]]
    weights = Floor(products_rounds_s, products.prefill_rounds_s[-rounds:])
    return {
        "products": weights,
        "all_products": Floor(
            [sum(pair) for pair in zip(weights.rounds_s, attention_rounds_s, strict=True)],
            [sum(pair) for pair in zip(weights.ttft_rounds_s, attention.prefill_rounds_s[-rounds:], strict=True)],
        ),
        "bandwidth": Floor([read_s * passes for read_s in reads_s], reads_s),
    }
