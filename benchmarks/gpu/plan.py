"""What `benchmarks.gpu` runs where: the grid on a GPU, or a rehearsal of every stage, tiny and on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import GPU_GRID, Case
from benchmarks.contenders import Files
from benchmarks.tiny import tiny_model
from benchmarks.workloads import Workload
from gptloop.checkpoint.seeded import random_model

# Seconds to make, load and measure a case of a size, and to get a contender ready; guesses.
NEEDS_S = {"gpt2": 40, "gpt2-medium": 60, "gpt2-large": 100, "tiny": 1}
READY_S = {"torch_compiled": 40, "onnx_unrolled": 60}
SMALL: dict[str, Any] = {"prompt_len": 8, "max_new_tokens": 6, "top_k": 5}


@dataclass
class Plan:
    """What is run where.

    Attributes:
        device: "cuda", or "cpu" to rehearse.
        cases: The grid.
        size: Of the stages that are no case.
        workload: Of the stages that are no case.
        speed_sizes: For cuda.
    """

    device: str = "cuda"
    cases: tuple[Case, ...] = GPU_GRID
    size: str = "gpt2"
    workload: Workload = field(default_factory=lambda: GPU_GRID[0].workload)
    speed_sizes: dict[str, int] = field(default_factory=dict)


def rehearsal() -> Plan:
    """Every stage, tiny and on the CPU."""

    def tiny(case: Case) -> Case:
        candidates = min(case.workload.num_return_sequences, 4)
        workload = replace(case.workload, **SMALL, num_return_sequences=candidates)
        return replace(case, size="tiny", workload=workload, rounds=2, ceiling=False, early_tokens=0)

    groups: dict[str, Case] = {}
    for case in GPU_GRID:
        groups.setdefault(tiny(case).group, tiny(case))
    workload = next(iter(groups.values())).workload
    return Plan("cpu", tuple(groups.values()), "tiny", workload, {"side": 64, "copy_bytes": 1 << 16})


class Sizes:
    """Checkpoints with seeded weights, made when first asked for; with all exports, three sizes take 20 GB of disk."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, size: str) -> Files:
        """A size's files; exports are made by the contenders that need them."""
        checkpoint = self._folder / size
        if not checkpoint.exists():
            model = tiny_model() if size == "tiny" else random_model(size)
            model.save_pretrained(checkpoint)
        return Files.of(size, self._folder, checkpoint, "random, seed 0")


def needs_s(case: Case) -> float:
    """About how long a case takes, in seconds."""
    ready_s = 0 if case.size == "tiny" else sum(READY_S.get(name, 0) for name in case.contenders)
    return NEEDS_S.get(case.size, 60) + ready_s
