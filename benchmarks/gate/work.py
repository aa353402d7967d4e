"""What a comparison of two trees measures: cases of the grid, a control, and where each tree's files lie.

Knows names and paths; nothing is loaded or run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import BASELINE, CPU_GRID
from benchmarks.workloads import Workload
from gptloop.report.budgets import Budgets

PROCESSES = 5  # pairs of a comparison where the machine was not calibrated
PRECISIONS = {"onnx": "fp32", "onnx_int8": "int8"}
SIDES = ("base", "change")

Arms = Mapping[str, tuple[str, float]]

# What is timed in a round: a side, and by which fraction its calls are made slower.
TWO_SIDES: Arms = {"base": ("base", 0.0), "change": ("change", 0.0)}


@dataclass(frozen=True)
class GatedCase:
    """A case of the grid and one contender of it."""

    name: str
    size: str
    workload: Workload
    contender: str


@dataclass(frozen=True)
class Work:
    """What a comparison measures, and with what.

    Attributes:
        cases: The gated ones.
        control: The PyTorch loop's case.
        rounds: Turns of each arm in each case and pair.
        device: "cpu" or "cuda".
        threads: Threads of a product.
        smoke: Tiny models in place of the published sizes: the command is tried, the times mean nothing.
    """

    cases: Sequence[GatedCase]
    control: GatedCase
    rounds: int
    device: str
    threads: int
    smoke: bool


class Files:
    """Checkpoints, and what each side's tree exports from them.

    Args:
        folder: Where they are made.
        trees: The root of each side's tree, by its name in `SIDES`.
    """

    def __init__(self, folder: Path, trees: Mapping[str, Path]):
        self.folder, self.trees = folder, trees

    def checkpoint(self, size: str) -> Path:
        return self.folder / size

    def exported(self, side: str, case: GatedCase) -> Path:
        return self.folder / side / f"{case.size}-{PRECISIONS[case.contender]}.onnx"


def gated_case(name: str) -> GatedCase:
    """A case of the grid by its name in the budget file, "SIZE WORKLOAD CONTENDER".

    Raises:
        ValueError: If the grid does not hold it, or the contender is no exported file (PyTorch is the control).
    """
    group, _, contender = name.rpartition(" ")
    found = next((case for case in CPU_GRID if case.group == group), None)
    if found is None or contender not in PRECISIONS:
        groups = ", ".join(case.group for case in CPU_GRID)
        raise ValueError(f"cannot gate {name!r}: expected one of {groups}, then {' or '.join(PRECISIONS)}")
    return GatedCase(name, found.size, found.workload, contender)


CONTROL = GatedCase(f"{CPU_GRID[0].group} {BASELINE}", CPU_GRID[0].size, CPU_GRID[0].workload, BASELINE)  # the shortest


def work_of(budgets: Budgets, facts: Mapping[str, Any], *, rounds: int, smoke: bool) -> Work:
    """What the gated cases of a budget file come to on this machine."""
    cases = [gated_case(name) for name in budgets.cases]
    return Work(cases, CONTROL, rounds, facts["device"], facts["threads"], smoke)
