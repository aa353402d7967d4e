"""What becomes a baseline, and which file it may replace: `--update-baseline`.

Knows what makes a run fit to be compared with; judges nothing.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from gptloop.report.baseline import KIND, Floors, Row, find_row, machine_floors
from gptloop.report.budgets import Budgets
from gptloop.report.checkout import refuse_dirty_checkout
from gptloop.report.errors import ReportError
from gptloop.report.files import OUTPUTS
from gptloop.report.records import named, read_record
from gptloop.report.statistics import paired_estimate
from gptloop.report.verdicts import FEWEST_ROUNDS, Floor, percent_text


def refuse_other_file(path: Path, folder: Path) -> None:
    """Refuse to put a baseline in the place of anything but a baseline.

    Args:
        path: Where it is to be written.
        folder: The report's, whose own files come and go.

    Raises:
        ReportError: If something else lies there, or will.
    """
    if not path.parent.is_dir():
        raise ReportError(f"{path.parent}: no such folder")
    if path.name in OUTPUTS and path.parent.resolve() == folder.resolve():
        raise ReportError(f"{path}: the report writes this file itself; name another one for the baseline")
    if not (path.exists() or path.is_symlink()):
        return
    try:
        is_baseline = read_record(path).values.get("gptloop_kind") == KIND
    except ReportError:
        is_baseline = False
    if not is_baseline:
        raise ReportError(f"{path}: is there already and no baseline, so it is left as it is; name a new file")


def new_baseline(run: pd.DataFrame, path: Path, budgets: Budgets, folder: Path) -> bytes:
    """What `--update-baseline` writes: the saved run, and the noise floors of its machine.

    Args:
        run: Rows of `newest_run`.
        path: Where it is saved.
        budgets: Of the gated cases.
        folder: The report's.

    Raises:
        ReportError: If the run or the checkout is dirty or nobody can tell, or if a gated case is missing or unstable.
    """
    if run["dirty"].iloc[0]:
        raise ReportError(f"{path}: measured on a dirty checkout; commit, measure again, then update the baseline")
    refuse_dirty_checkout(folder)
    stored = machine_floors(folder, run, budgets)
    floors = Floors(stored, budgets.stored_floor)
    for case, budget in budgets.cases.items():
        _check_stable(path, case, find_row(run, case), budget, floors(case))
    head = {"gptloop_kind": KIND, "noise_floors": stored}
    return json.dumps(head | read_record(path).values | head, indent=1).encode()


def _check_stable(path: Path, case: str, row: Row | None, budget: float, floor: Floor) -> None:
    if row is None:
        raise ReportError(f"{path}: no baseline without the gated case {named(case)}, which this run did not measure")
    if (rounds := len(row["rounds_s"])) < FEWEST_ROUNDS:
        raise ReportError(f"{path}: {named(case)} has {rounds} round, at least {FEWEST_ROUNDS} are needed")
    interval = paired_estimate(np.log(row["rounds_s"]))
    half, limit = (interval.high - interval.low) / 2, max(floor.effect, float(np.log1p(budget)))
    if half > limit:
        raise ReportError(
            f"{path}: unstable run: the time of {named(case)} is known to within {percent_text(half)[1:]} only, a "
            f"baseline needs {percent_text(limit)[1:]}; measure again on a quieter machine"
        )
