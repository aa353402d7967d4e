"""A saved run against a stored baseline of the same machine.

A baseline is a saved run, or what `--update-baseline` writes: the same content, with the machine's noise floors beside
it. Both sides are single processes that ran at different times, so what tells them apart is the calibrated floor
between processes, and the PyTorch loop is the control: where it moved as well, the machine has changed, not the graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gptloop.report.budgets import Budgets
from gptloop.report.calibration import CONTROL, assumed_floor, find_calibration
from gptloop.report.compare import paired_ratios
from gptloop.report.contenders import BASELINE
from gptloop.report.errors import ReportError
from gptloop.report.markdown import escape
from gptloop.report.memory import judge_memory
from gptloop.report.records import is_number, named, read_record
from gptloop.report.run_file import CASE_FIELDS
from gptloop.report.runs import read_run
from gptloop.report.statistics import unpaired_estimate
from gptloop.report.text import commits_text
from gptloop.report.verdict_text import verdicts_table, verdicts_text
from gptloop.report.verdicts import (
    CANNOT_JUDGE,
    FEWEST_ROUNDS,
    Floor,
    Quantity,
    Value,
    Verdict,
    exit_code,
    missing,
    percent_text,
    verdict,
)

KIND = "baseline"
SCHEMA = 1
_ANOTHER_MACHINE = "another machine: informs, and is never gated"
_LARGEST_FLOOR = 10  # a log-ratio: more than 20,000 times the time

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Judged:
    """Verdicts on a run, and on what grounds.

    Attributes:
        verdicts: Of every gated case.
        run: The run judged, and its commit.
        baseline: The file it was compared with, and its commit.
        base_commit: The commit alone, to compare with by `benchmarks.change`.
        same_machine: False if it can only inform.
    """

    verdicts: Sequence[Verdict]
    run: str
    baseline: str
    base_commit: str
    same_machine: bool

    @property
    def exit_code(self) -> int:
        return exit_code(self.verdicts) if self.same_machine else CANNOT_JUDGE

    @property
    def measure_again(self) -> bool:
        """Whether another run could be judged where this one could not."""
        unstable = any(one.value is Value.UNSTABLE for one in self.verdicts)
        return self.same_machine and self.exit_code == CANNOT_JUDGE and unstable

    def to_json(self) -> dict[str, Any]:
        return {
            "gptloop_kind": "verdicts",
            "schema": SCHEMA,
            "run": self.run,
            "baseline": self.baseline,
            "same_machine": self.same_machine,
            "exit_code": self.exit_code,
            "measure_again": self.measure_again,
            "verdicts": [one.to_json() for one in self.verdicts],
        }

    def markdown(self) -> str:
        """A section of the summary."""
        lines = ["## Regression gate", f"Judged: {escape(self.run)}, against the baseline {escape(self.baseline)}."]
        if self.same_machine:
            lines.append(verdicts_text(self.verdicts))
        else:
            lines.append("**Not gated: the baseline is from another machine, so the numbers below only inform.**")
        lines.append(verdicts_table(self.verdicts))
        if any(one.value is Value.REGRESSION for one in self.verdicts):
            lines.append(
                f"What changed, operator by operator: `python -m benchmarks.change --base {self.base_commit}`."
            )
        return "\n\n".join(lines)


def judge_run(run: pd.DataFrame, path: Path, budgets: Budgets, folder: Path) -> Judged:
    """Verdicts on a run against a stored baseline.

    Args:
        run: Rows of `newest_run`.
        path: The baseline.
        budgets: Of the gated cases.
        folder: Where a calibration may lie, for a baseline that holds no floors.

    Raises:
        ReportError: If the baseline cannot be read.
    """
    base = read_run(path)
    machine = run["machine"].iloc[0]
    same_machine = bool(machine == base["machine"].iloc[0])
    stored = _stored_floors(path)
    if not stored and same_machine:
        stored = machine_floors(folder, run, budgets)
    floors = Floors(stored if stored and same_machine else {}, budgets.stored_floor)
    verdicts = [_judge_case(case, base, run, budgets, floors, same_machine) for case in budgets.cases]
    verdicts += [_judge_memory(case, base, run, budgets, same_machine) for case in budgets.memory]
    commit = str(base["commit"].iloc[0])[:10]
    return Judged(verdicts, _title(run), _title(base), commit, same_machine)


def _title(run: pd.DataFrame) -> str:
    first = run.iloc[0]
    return f"{first['run']} ({first['datetime']:%Y-%m-%d %H:%M} UTC, commit {commits_text(run)})"


def machine_floors(folder: Path, run: pd.DataFrame, budgets: Budgets) -> dict[str, float]:
    """The calibrated floors of a run's machine, by case; none where it was not calibrated."""
    calibration = find_calibration(folder, run["machine"].iloc[0])
    return calibration.stored_floors(list(budgets.cases)) if calibration else {}


class Floors:
    """Floors by case; the assumed one where nothing was calibrated."""

    def __init__(self, stored: Mapping[str, float], assumed: float):
        self._stored, self._assumed = stored, assumed_floor(assumed)

    def __call__(self, case: str) -> Floor:
        return Floor(self._stored[case], calibrated=True) if case in self._stored else self._assumed


def _stored_floors(path: Path) -> dict[str, float] | None:
    """None for a plain run."""
    values = read_record(path).values
    if "gptloop_kind" not in values:
        return None
    floors = values.get("noise_floors")
    if values["gptloop_kind"] != KIND or not isinstance(floors, dict):
        raise ReportError(
            f"{path}: gptloop_kind is {named(values['gptloop_kind'])}: neither a saved run nor a baseline"
        )
    for case, floor in floors.items():
        if not is_number(floor, 0, _LARGEST_FLOOR):
            floor_of = f"{path}: the noise floor of {named(case)}"
            raise ReportError(f"{floor_of} is {named(floor)}, expected a number from 0 to {_LARGEST_FLOOR}")
    return floors


def _judge_case(
    case: str, base: pd.DataFrame, run: pd.DataFrame, budgets: Budgets, floors: Floors, same_machine: bool
) -> Verdict:
    budget = budgets.cases[case]
    before, now = find_row(base, case), find_row(run, case)
    if before is None or now is None or (reason := _not_comparable(before, now)):
        return missing(case, budget, _absent(before, now) or reason)
    for side, row in (("baseline", before), ("run", now)):
        if (rounds := len(row["rounds_s"])) < FEWEST_ROUNDS:
            return missing(case, budget, f"the {side} has {rounds} round, at least {FEWEST_ROUNDS} are needed")
    controls = [find_row(rows, f"{case.rsplit(maxsplit=1)[0]} {BASELINE}") for rows in (base, run)]
    for side, control, row in (("baseline", controls[0], before), ("run", controls[1], now)):
        if control and (beside := len(control["rounds_s"])) != (rounds := len(row["rounds_s"])):
            return missing(case, budget, f"the {side} has {rounds} rounds of it, and {beside} of the PyTorch loop")
    return verdict(
        case,
        unpaired_estimate(before["rounds_s"], now["rounds_s"]),
        budgets,
        floors(case),
        trouble=_trouble(controls, floors(CONTROL)) if same_machine else _ANOTHER_MACHINE,
        base_s=float(np.median(before["rounds_s"])),
        change_s=float(np.median(now["rounds_s"])),
        base_speedup=_speedup(controls[0], before),
        change_speedup=_speedup(controls[1], now),
    )


def _judge_memory(case: str, base: pd.DataFrame, run: pd.DataFrame, budgets: Budgets, same_machine: bool) -> Verdict:
    before, now = find_row(base, case), find_row(run, case)
    if before is None or now is None or (reason := _not_comparable(before, now)):
        return missing(case, budgets.memory[case], _absent(before, now) or reason, Quantity.MEMORY)
    peaks = [None if pd.isna(row["peak_memory_bytes"]) else row["peak_memory_bytes"] for row in (before, now)]
    trouble = None if same_machine else _ANOTHER_MACHINE
    return judge_memory(case, peaks[:1], peaks[1:], budgets, assumed_floor(budgets.memory_floor), trouble)


def _absent(before: Row | None, now: Row | None) -> str:
    """Which side lacks a case; nothing if both have it."""
    if before is None:
        return f"the baseline does not hold it{'' if now else ', nor does the run'}"
    return "" if now else "the run did not measure it, the baseline did; or it failed its parity check"


def _not_comparable(before: Row, now: Row) -> str:
    """Why a case of both sides says nothing of a change, or nothing."""
    for name in (*CASE_FIELDS, "precision"):
        if before[name] != now[name]:
            return f"the baseline measured other work: {name} {named(before[name])}, now {named(now[name])}"
    if before["rounds_s"] == now["rounds_s"] or before["datetime"] >= now["datetime"]:
        return "nothing new was measured: the run is the one that the baseline was made from, or not newer than it"
    return ""


def _trouble(controls: Sequence[Row | None], floor: Floor) -> str | None:
    """The control: why times of the two sides cannot be compared, or None."""
    before, now = controls
    if before is None or now is None:
        return "no PyTorch loop was measured beside it, so nobody knows whether the machine is still as fast"
    drift = float(np.log(np.median(now["rounds_s"]) / np.median(before["rounds_s"])))
    if abs(drift) <= floor.effect:
        return None
    return (
        f"the PyTorch loop beside it took {percent_text(drift)} time, more than the noise of "
        f"{percent_text(floor.effect)[1:]}: the machine is not as fast as it was (or that loop was changed). Measure "
        "change against base instead (python -m benchmarks.change), or make a new baseline"
    )


def _speedup(control: Row | None, row: Row) -> float | None:
    return float(np.median(paired_ratios(control["rounds_s"], row["rounds_s"]))) if control else None


def find_row(rows: pd.DataFrame, case: str) -> Row | None:
    """The row of a gated case in a run, as columns by name."""
    group, contender = case.rsplit(maxsplit=1)
    found = rows[(rows["group"] == group) & (rows["contender"] == contender)].to_dict("records")
    return found[0] if found else None
