"""The newest saved run against a stored baseline of the same machine, and the making of such a baseline.

A baseline is a saved run, or what `--update-baseline` writes: the same content, with the machine's noise floors beside
it. Both sides are single processes that ran at different times, so what tells them apart is the calibrated floor
between processes, and the PyTorch loop is the control: where it moved as well, the machine has changed, not the graph.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gptloop.report.budgets import Budgets
from gptloop.report.calibration import CONTROL, assumed_floor, find_calibration
from gptloop.report.compare import BASELINE, paired_ratios
from gptloop.report.errors import ReportError
from gptloop.report.markdown import escape
from gptloop.report.records import is_number, read_record
from gptloop.report.runs import CASE_FIELDS, read_run
from gptloop.report.statistics import paired_estimate, unpaired_estimate
from gptloop.report.text import commits_text
from gptloop.report.verdicts import (
    FEWEST_ROUNDS,
    Floor,
    Verdict,
    exit_code,
    missing,
    percent_text,
    verdict,
    verdicts_table,
    verdicts_text,
)

KIND = "baseline"
SCHEMA = 1

Row = Mapping[Any, Any]


@dataclass(frozen=True)
class Judged:
    """Verdicts on a run, and on what grounds.

    Attributes:
        verdicts: Of every gated case.
        run: The run judged, and its commit.
        baseline: The file it was compared with, and its commit.
        same_machine: False if it can only inform.
    """

    verdicts: Sequence[Verdict]
    run: str
    baseline: str
    same_machine: bool

    @property
    def exit_code(self) -> int:
        return exit_code(self.verdicts) if self.same_machine else 2

    def to_json(self) -> dict[str, Any]:
        return {
            "gptloop_kind": "verdicts",
            "schema": SCHEMA,
            "run": self.run,
            "baseline": self.baseline,
            "same_machine": self.same_machine,
            "exit_code": self.exit_code,
            "verdicts": [one.to_json() for one in self.verdicts],
        }

    def markdown(self) -> str:
        """A section of the summary."""
        lines = ["## Regression gate", f"{escape(self.run)}, against the baseline {escape(self.baseline)}."]
        if self.same_machine:
            lines.append(verdicts_text(self.verdicts))
        else:
            lines.append("**Not gated: the baseline is from another machine, so the numbers below only inform.**")
        return "\n\n".join([*lines, verdicts_table(self.verdicts)])


def newest_run(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of the newest run, of whatever machine: an older one of the right machine would pass in its place."""
    newest = runs.sort_values(["datetime", "run"], kind="stable")["run"].iloc[-1]
    return runs[runs["run"] == newest]


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
    floors = _Floors(stored if stored and same_machine else {}, budgets.stored_floor)
    verdicts = [_judge_case(case, base, run, budgets, floors, same_machine) for case in budgets.cases]
    names = [f"{rows['run'].iloc[0]} (commit {commits_text(rows)})" for rows in (run, base)]
    return Judged(verdicts, run=names[0], baseline=names[1], same_machine=same_machine)


def machine_floors(folder: Path, run: pd.DataFrame, budgets: Budgets) -> dict[str, float]:
    """The calibrated floors of a run's machine, by case; none where it was not calibrated."""
    calibration = find_calibration(folder, run["machine"].iloc[0])
    return calibration.stored_floors(list(budgets.cases)) if calibration else {}


def new_baseline(run: pd.DataFrame, path: Path, budgets: Budgets, folder: Path) -> bytes:
    """What `--update-baseline` writes: the saved run, and the noise floors of its machine.

    Args:
        run: Rows of `newest_run`.
        path: Where that run is saved.
        budgets: Of the gated cases.
        folder: The report's.

    Raises:
        ReportError: If the run or the checkout is dirty, or if a gated case is missing or unstable.
    """
    if run["dirty"].iloc[0]:
        raise ReportError(f"{path}: measured on a dirty checkout; commit, measure again, then update the baseline")
    if changed := _changed_files(folder):
        raise ReportError(f"the checkout is dirty ({changed[0]}); commit first, then update the baseline")
    stored = machine_floors(folder, run, budgets)
    floors = _Floors(stored, budgets.stored_floor)
    for case, budget in budgets.cases.items():
        _check_stable(path, case, _find(run, case), budget, floors(case))
    content = read_record(path).values
    return json.dumps({"gptloop_kind": KIND, "noise_floors": stored, **content}, indent=1).encode()


class _Floors:
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
        raise ReportError(f"{path}: gptloop_kind is {values['gptloop_kind']!r}: neither a saved run nor a baseline")
    for case, floor in floors.items():
        if not is_number(floor) or floor < 0:
            raise ReportError(f"{path}: the noise floor of {case!r} is {floor!r}, expected a number of at least 0")
    return floors


def _judge_case(
    case: str, base: pd.DataFrame, run: pd.DataFrame, budgets: Budgets, floors: _Floors, same_machine: bool
) -> Verdict:
    budget = budgets.cases[case]
    before, now = _find(base, case), _find(run, case)
    if before is None:
        return missing(case, budget, f"the baseline does not hold it{'' if now else ', nor does the run'}")
    if now is None:
        return missing(case, budget, "the run did not measure it, the baseline did; or it failed its parity check")
    for name in (*CASE_FIELDS, "precision"):
        if before[name] != now[name]:
            other = f"{name} {before[name]!r}, now {now[name]!r}"
            return missing(case, budget, f"the baseline measured other work: {other}")
    for side, row in (("baseline", before), ("run", now)):
        if (rounds := len(row["rounds_s"])) < FEWEST_ROUNDS:
            return missing(case, budget, f"the {side} has {rounds} round, at least {FEWEST_ROUNDS} are needed")
    controls = [_find(rows, f"{case.rsplit(maxsplit=1)[0]} {BASELINE}") for rows in (base, run)]
    for side, control, row in (("baseline", controls[0], before), ("run", controls[1], now)):
        if control and (beside := len(control["rounds_s"])) != (rounds := len(row["rounds_s"])):
            return missing(case, budget, f"the {side} has {rounds} rounds of it, and {beside} of the PyTorch loop")
    return verdict(
        case,
        unpaired_estimate(before["rounds_s"], now["rounds_s"]),
        budgets,
        floors(case),
        trouble=_trouble(controls, floors(CONTROL)) if same_machine else "another machine: informs, and is never gated",
        base_s=float(np.median(before["rounds_s"])),
        change_s=float(np.median(now["rounds_s"])),
        base_speedup=_speedup(controls[0], before),
        change_speedup=_speedup(controls[1], now),
    )


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


def _find(rows: pd.DataFrame, case: str) -> Row | None:
    group, contender = case.rsplit(maxsplit=1)
    found = rows[(rows["group"] == group) & (rows["contender"] == contender)].to_dict("records")
    return found[0] if found else None


def _check_stable(path: Path, case: str, row: Row | None, budget: float, floor: Floor) -> None:
    if row is None:
        raise ReportError(f"{path}: no baseline without the gated case {case!r}, which this run did not measure")
    if len(row["rounds_s"]) < FEWEST_ROUNDS:
        raise ReportError(f"{path}: {case!r} has {len(row['rounds_s'])} round, at least {FEWEST_ROUNDS} are needed")
    interval = paired_estimate(np.log(row["rounds_s"]))
    half, limit = (interval.high - interval.low) / 2, max(floor.effect, float(np.log1p(budget)))
    if half > limit:
        raise ReportError(
            f"{path}: unstable run: the time of {case!r} is known to within {percent_text(half)[1:]} only, a baseline "
            f"needs {percent_text(limit)[1:]}; measure again on a quieter machine"
        )


def _changed_files(folder: Path) -> list[str]:
    """Tracked files with changes, the report's own folder aside; none where there is no repository."""
    command = ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)."]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise ReportError(f"{folder}: git, which tells whether the checkout is clean: {error.strerror}") from error
    return [line[3:] for line in done.stdout.splitlines()]
