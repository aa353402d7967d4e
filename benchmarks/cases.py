"""The grids: which sizes, workloads and contenders are measured, and how many rounds each gets.

Knows names and numbers only; nothing here is loaded or run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from benchmarks.workloads import (
    CANDIDATES,
    ENDING,
    GPU_LONG,
    LONG_CANDIDATES,
    LONG_PROMPT,
    LONG_PROMPTS,
    LONG_TEXT,
    LONG_TEXTS,
    MANY_PROMPTS,
    ONE_ROW,
    PROMPTS,
    RAGGED,
    SMOKE,
    Workload,
)

BASELINE = "torch"
CONTENDERS = (
    BASELINE,
    "torch_tiled",
    "torch_int8",
    "torch_bf16",
    "torch_compiled",
    "hf_generate",
    "onnx_step",
    "onnx",
    "onnx_int8",
)
PEERS = ("ctranslate2", "ctranslate2_int8", "openvino", "openvino_default", "jax")


@dataclass(frozen=True)
class Case:
    """A size under a workload: what its contenders are compared on.

    Attributes:
        size: A published size, by name.
        workload: The call.
        rounds: Interleaved cycles; each contender is timed once in each.
        alone_rounds: Timed rounds of each contender in a process of its own, after the call that measures its peak
            memory: the control of the interleaving.
        contenders: Who runs, the baseline first.
        smoke: Whether the case belongs to the smoke subset.
        ceiling: Whether what bounds the graph's speed is measured, too: its matrix products alone, and its weights' way
            from memory.
        early_tokens: Also time the call with so many new tokens, to see how time per output token grows; 0 for not.
        precision: Of the contenders that have none of their own, the baseline among them.
        traced: Whether a decode step of each contender is traced, too, to count what it makes a GPU do.
    """

    size: str
    workload: Workload
    rounds: int
    alone_rounds: int
    contenders: tuple[str, ...] = CONTENDERS
    smoke: bool = False
    ceiling: bool = False
    early_tokens: int = 0
    precision: str = "fp32"
    traced: bool = False

    @property
    def group(self) -> str:
        precision = "" if self.precision == "fp32" else f" {self.precision}"
        return f"{self.size} {self.workload.id}{precision}"

    @property
    def runs(self) -> tuple[str, ...]:
        """The contenders that differ here: one candidate cannot be tiled."""
        tiled = self.workload.num_return_sequences > 1
        return tuple(name for name in self.contenders if tiled or name != "torch_tiled")


_LOOPS = (BASELINE, "onnx", "onnx_int8")
_GRAPHS = (BASELINE, "onnx_step", "onnx", "onnx_int8")
_WITHOUT_COMPILED = tuple(name for name in CONTENDERS if name != "torch_compiled")

# Two CPU cores end this in about a quarter of an hour. So torch_int8, torch_bf16 and hf_generate run at one row only,
# torch_compiled, which compiles for half a minute twice, nowhere, the larger sizes go without the costliest contenders
# and without 64 candidates, gpt2 at 64 candidates without those that prefill as many rows, and of the workloads whose
# calls are long there is one (`--grid full` has them all).
CPU_GRID = (
    Case(
        "distilgpt2",
        SMOKE,
        rounds=2,
        alone_rounds=1,
        contenders=(BASELINE, "torch_tiled", "hf_generate", "onnx_step", "onnx", "onnx_int8"),
        smoke=True,
    ),
    Case("gpt2", ONE_ROW, rounds=5, alone_rounds=3, contenders=_WITHOUT_COMPILED, ceiling=True),
    Case("gpt2", PROMPTS, rounds=4, alone_rounds=2, contenders=_GRAPHS, ceiling=True),
    Case("gpt2", CANDIDATES, rounds=3, alone_rounds=1, contenders=_GRAPHS, ceiling=True),
    Case("gpt2", LONG_PROMPT, rounds=3, alone_rounds=1, contenders=_LOOPS),
    Case("gpt2", ENDING, rounds=3, alone_rounds=1, contenders=_LOOPS),
    Case("gpt2-medium", ONE_ROW, rounds=4, alone_rounds=1, contenders=_LOOPS),
    Case("gpt2-large", ONE_ROW, rounds=3, alone_rounds=1, contenders=_LOOPS),
)

# Where the copying of K and V shows: the ratio of time per output token over all tokens to that over the first 36.
LONG_GRID = (
    Case(
        "gpt2",
        LONG_TEXT,
        rounds=3,
        alone_rounds=0,
        contenders=_LOOPS,
        ceiling=True,
        early_tokens=36,
    ),
    Case(
        "gpt2",
        LONG_TEXTS,
        rounds=3,
        alone_rounds=0,
        contenders=_LOOPS,
        ceiling=True,
        early_tokens=36,
    ),
)

SHORT = (ONE_ROW, PROMPTS, MANY_PROMPTS, CANDIDATES)
LONG = (LONG_PROMPT, LONG_PROMPTS, LONG_CANDIDATES)
UNEQUAL = (RAGGED, ENDING)
FULL_SIZES = ("gpt2", "gpt2-medium", "gpt2-large")

# On a GPU, in fp16: the published workload first, then the variants, latency and a longer text. benchmarks.gpu runs
# them within 10 minutes; torch compiled and every step written out take half a minute and more to get ready.
GPU_LOOPS = (BASELINE, "onnx", "onnx_lean", "onnx_fixed", "onnx_fused")
GPU_GRID = (
    *(
        Case(
            size,
            CANDIDATES,
            rounds=20,
            alone_rounds=0,
            contenders=GPU_LOOPS,
            ceiling=True,
            precision="fp16",
            traced=size == "gpt2",
        )
        for size in FULL_SIZES
    ),
    Case(
        "gpt2",
        ONE_ROW,
        rounds=20,
        alone_rounds=0,
        contenders=(*GPU_LOOPS, "hf_generate", "torch_compiled", "onnx_step", "onnx_unrolled"),
        ceiling=True,
        precision="fp16",
        traced=True,
    ),
    Case(
        "gpt2",
        CANDIDATES,
        rounds=9,
        alone_rounds=0,
        contenders=(BASELINE, "onnx", "onnx_lean"),
        ceiling=True,
    ),
    Case(
        "gpt2",
        GPU_LONG,
        rounds=9,
        alone_rounds=0,
        contenders=GPU_LOOPS,
        ceiling=True,
        early_tokens=36,
        precision="fp16",
    ),
    Case(
        "gpt2-large",
        ONE_ROW,
        rounds=9,
        alone_rounds=0,
        contenders=GPU_LOOPS,
        ceiling=True,
        precision="fp16",
    ),
)


def full_grid(sizes: tuple[str, ...] = FULL_SIZES) -> tuple[Case, ...]:
    """Every workload and contender at every size; fewer rounds of those whose calls are long."""
    cases = (
        case
        for size in sizes
        for case in (
            *(Case(size, workload, rounds=9, alone_rounds=3, ceiling=True) for workload in SHORT),
            *(Case(size, workload, rounds=5, alone_rounds=1, ceiling=True) for workload in LONG),
            # What is padded or has ended is computed as well, by some; no floor is the same for all.
            *(Case(size, workload, rounds=5, alone_rounds=1) for workload in UNEQUAL),
        )
    )
    return (CPU_GRID[0], *cases)


def grid(name: str, *, has_gpu: bool, xl: bool, peers: bool = False, only: Collection[str] = ()) -> tuple[Case, ...]:
    """The cases of one run.

    Args:
        name: "cpu", "full", "long", "gpu", or "auto" for the one that fits the machine.
        has_gpu: Whether there is one.
        xl: Add gpt2-xl (in fp32 6.2 GB of weights, held by each contender).
        peers: Add `PEERS` wherever more than the loops are compared.
        only: These contenders and the baseline in place of all, in the cases that have any of them.
    """
    cases = _grid(name, has_gpu, xl)
    if peers:
        cases = tuple(
            case if case.contenders == _LOOPS else replace(case, contenders=case.contenders + PEERS) for case in cases
        )
    if only:
        cases = tuple(
            replace(case, contenders=tuple(name for name in case.contenders if name in {BASELINE, *only}))
            for case in cases
            if set(only) & set(case.contenders)
        )
    return cases


def _grid(name: str, has_gpu: bool, xl: bool) -> tuple[Case, ...]:
    if name == "long":
        return LONG_GRID
    if name == "gpu" or (name == "auto" and has_gpu):
        xl_gpu = Case("gpt2-xl", CANDIDATES, 20, 0, contenders=GPU_LOOPS, ceiling=True, precision="fp16")
        return (*GPU_GRID, xl_gpu) if xl else GPU_GRID
    sizes = (*FULL_SIZES, "gpt2-xl") if xl else FULL_SIZES
    if name == "full":
        return full_grid(sizes)
    xl_cases = tuple(Case("gpt2-xl", w, rounds=3, alone_rounds=1, contenders=_LOOPS) for w in (ONE_ROW, CANDIDATES))
    return CPU_GRID + xl_cases if xl else CPU_GRID
