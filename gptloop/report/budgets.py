"""The budget file: which cases are gated, how much slower each may become, and what is assumed of an unknown machine.

Knows its own keys; refuses others, so that a misspelt one is not a budget lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptloop.report.disk import read_toml
from gptloop.report.errors import ReportError
from gptloop.report.records import named

_NUMBERS = ("budget", "resolution", "drift", "paired_floor", "stored_floor")
_OF_MEMORY = ("memory_budget", "memory_floor")  # both, or none: then memory is not gated


@dataclass(frozen=True)
class Budgets:
    """Fractions of time, or of memory: 0.02 is 2 %.

    Attributes:
        path: The file, for messages.
        cases: The budget of each gated case, by "SIZE WORKLOAD CONTENDER", or "SIZE WORKLOAD PRECISION CONTENDER"
            where its group names a precision.
        resolution: The noise floor above which a machine can judge nothing.
        drift: How far the PyTorch loop may move from process to process before nothing beside it is judged.
        paired_floor: The noise floor assumed of change against base, where the machine was not calibrated.
        stored_floor: The same against a stored baseline.
        memory: The budget of each gated case's peak memory; empty where memory is not gated.
        memory_floor: The noise floor assumed of peak memory, where the machine was not calibrated.
    """

    path: Path
    cases: Mapping[str, float]
    resolution: float
    drift: float
    paired_floor: float
    stored_floor: float
    memory: Mapping[str, float]
    memory_floor: float


def read_budgets(path: Path) -> Budgets:
    """Read a budget file.

    Raises:
        ReportError: If it cannot be read, or holds anything but what `benchmarks/gate/budgets.toml` explains.
    """
    content = read_toml(path)
    _refuse_others(path, content, {*_NUMBERS, *_OF_MEMORY, "cases"})
    numbers = {name: _fraction(path, content, name) for name in _NUMBERS}
    of_memory = {}
    if any(name in content for name in _OF_MEMORY):
        of_memory = {name: _fraction(path, content, name) for name in _OF_MEMORY}
    cases = content.get("cases")
    if not isinstance(cases, dict) or not cases:
        raise ReportError(f'{path}: no gated case; name one as [cases."SIZE WORKLOAD CONTENDER"]')
    budgets, memory = {}, {}
    for case, settings in cases.items():
        words = case.split(" ")
        if not isinstance(settings, dict) or len(words) not in (3, 4) or not all(words) or not case.isprintable():
            raise ReportError(f'{path}: cases has {named(case)}, expected [cases."SIZE WORKLOAD CONTENDER"]')
        _refuse_others(path, settings, {"budget", *({"memory_budget"} if of_memory else ())})
        budgets[case] = _fraction(path, {"budget": numbers["budget"], **settings}, "budget")
        if of_memory:
            memory[case] = _fraction(path, of_memory | settings, "memory_budget")
    floor = of_memory.get("memory_floor", 0.0)
    rest = {name: numbers[name] for name in _NUMBERS if name != "budget"}
    return Budgets(path, budgets, **rest, memory=memory, memory_floor=floor)


def _refuse_others(path: Path, table: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(table.keys() - known):
        raise ReportError(f"{path}: unknown key {named(unknown[0])}, expected {', '.join(sorted(known))}")


def _fraction(path: Path, table: Mapping[str, Any], name: str) -> float:
    value = table.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ReportError(f"{path}: {name} is {named(value)}, expected a fraction, at least 0 and below 1")
    return float(value)
