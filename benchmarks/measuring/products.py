"""The matrix products of a generate call alone, in ONNX Runtime, with the same threads and the file's own tensors.

The graphs of gptloop.graph.variants.products, once at the prefill's shapes and once per further token at a decode
step's; with weights and of attention apart. Inputs and outputs are bound to memory that stays in the caches, as
activations do; but for K and V, of which each layer has its own. Knows no contender and no clock.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from benchmarks.workloads import Workload
from gptloop.exporter.exported import read_exported
from gptloop.graph.blocks import block_bounds
from gptloop.graph.prompt_attention import chunk_bounds
from gptloop.graph.variants.products import (
    BLOCK,
    EARLIER,
    LAST_ROWS,
    PROMPT,
    ROWS,
    build_attention_products,
    build_products,
    product_bytes,
)
from gptloop.runtime.session import open_session, session_options


class BoundSession:
    """A session whose inputs and outputs are bound to memory once, for each set of sizes that it is to run at.

    Args:
        model: All of whose dimensions are numbers or names of sizes, and all values float32.
        threads: Threads of one product.
        sizes: What the names stand for, by run.
        memory: Inputs for which this gives the same share their memory, of random numbers. All outputs share theirs.
    """

    def __init__(
        self,
        model: Path | bytes,
        threads: int,
        sizes: Sequence[Mapping[str, int]],
        memory: Callable[[ort.NodeArg], Hashable],
    ):
        def largest(values: Iterable[ort.NodeArg]) -> int:
            return max((math.prod(_shape(value, names)) for value in values for names in sizes), default=0)

        self._session = open_session(model, device="cpu", options=session_options(threads))
        rng = np.random.default_rng(0)
        sharing: dict[Hashable, list[ort.NodeArg]] = {}
        for x in self._session.get_inputs():
            sharing.setdefault(memory(x), []).append(x)
        self._inputs = {key: rng.standard_normal(largest(values), np.float32) for key, values in sharing.items()}
        self._output = np.empty(largest(self._session.get_outputs()), np.float32)
        self._bindings = [self._session.io_binding() for _ in sizes]
        for binding, names in zip(self._bindings, sizes, strict=True):
            for x in self._session.get_inputs():
                start = self._inputs[memory(x)].ctypes.data
                binding.bind_input(x.name, "cpu", 0, np.float32, _shape(x, names), start)
            for y in self._session.get_outputs():
                binding.bind_output(y.name, "cpu", 0, np.float32, _shape(y, names), self._output.ctypes.data)

    def run(self, index: int) -> None:
        """At the sizes of this index."""
        self._session.run_with_iobinding(self._bindings[index])


def _shape(value: ort.NodeArg, names: Mapping[str, int]) -> list[int]:
    return [names.get(dim, dim) for dim in value.shape]


class Call:
    """What one generate call runs.

    Args:
        prefill: Its first part, which is all that a call for one token runs.
        steps: Then these, in turn.
    """

    def __init__(self, prefill: Callable[[], None], steps: Sequence[Callable[[], None]]):
        self.prefill, self._steps = prefill, steps

    def __call__(self) -> None:
        self.prefill()
        for step in self._steps:
            step()


class Products(Call):
    """The matrix products with weights of one generate call.

    Args:
        path: The exported file, beside which the graph of its products is written, with the same data file.
        workload: The call.
        threads: Threads of one product.

    Attributes:
        pass_bytes: Of the matrices that each pass reads.
    """

    def __init__(self, path: Path, workload: Workload, threads: int):
        exported = read_exported(path)
        file = path.with_name(f"{path.stem}.products.onnx")
        if not file.exists():
            ir.save(build_products(*exported), file)
        self.pass_bytes = product_bytes(exported.config, exported.tensors)
        B, S = workload.prompts, workload.prompts * workload.num_return_sequences
        sizes = [{ROWS: B * workload.prompt_len, LAST_ROWS: B}, {ROWS: S, LAST_ROWS: S}]
        session = BoundSession(file, threads, sizes, memory=lambda x: x.shape[1])
        prefill, step = (functools.partial(session.run, index) for index in range(2))
        super().__init__(prefill, [step] * (workload.max_new_tokens - 1))


class AttentionProducts(Call):
    """The matrix products of attention in one generate call.

    Args:
        config: The model's GPT2Config.
        workload: The call.
        threads: Threads of one product.
    """

    def __init__(self, config: Any, workload: Workload, threads: int):
        def session(parts: Sequence[str], sizes: Sequence[Mapping[str, int]]) -> BoundSession:
            model = ir.to_proto(build_attention_products(config, parts)).SerializeToString()
            return BoundSession(model, threads, sizes, memory=lambda x: x.name)  # each layer has a K and V of its own

        B, R, P = workload.prompts, workload.num_return_sequences, workload.prompt_len
        prompt, earlier, block = (f"{part}_length" for part in (PROMPT, EARLIER, BLOCK))
        step = {"B": B, "R": R, ROWS: R, LAST_ROWS: R, prompt: P}
        sizes = [
            step | {earlier: start, block: t + 1}
            for start, end in itertools.pairwise(block_bounds(workload.max_new_tokens - 1))
            for t in range(end - start)
        ]
        # Of the last layer, one position attends, once to all: here to what is before each chunk's end, a little more.
        chunks = [
            {"B": B, ROWS: end - start, LAST_ROWS: 1, prompt: P - start}
            for start, end in itertools.pairwise(chunk_bounds(P))
        ]
        of_prompts = session([PROMPT], chunks)
        decode = session([PROMPT, EARLIER, BLOCK], sizes)
        steps = [functools.partial(decode.run, index) for index in range(len(sizes))]

        def prefill() -> None:
            for index in range(len(chunks)):
                of_prompts.run(index)

        super().__init__(prefill, steps)
