"""The gated cases over all saved runs of a machine: where their time changed for good, and between which commits.

Knows which runs are a case's history; what a change of numbers is, `change_points` knows, and `trend_words` how it is
told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from gptloop.report.change_points import Change, find_changes
from gptloop.report.run_file import CASE_FIELDS
from gptloop.report.text import Row

WORK = (*CASE_FIELDS, "precision")


@dataclass(frozen=True)
class LastingChange:
    """A change in a case's history.

    Attributes:
        change: Its places, as indexes into the history, and its size.
        before: The row of the last run before it.
        after: That of the first run after it.
        control: Log-ratio of the PyTorch loop's time beside it, or None where it was not measured.
        notes: What else changed there, in how runs are measured.
    """

    change: Change
    before: Row
    after: Row
    control: float | None
    notes: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """For machines: changes as fractions of the time before."""
        effect, low, high = (float(np.expm1(x)) for x in (self.change.effect, self.change.low, self.change.high))
        return {
            "kind": "drift" if self.change.drift else "step",
            "effect": effect,
            "interval": [low, high],
            "before": {name: self.before[name] for name in ("run", "commit", "dirty")},
            "after": {name: self.after[name] for name in ("run", "commit", "dirty")},
            "control_effect": None if self.control is None else float(np.expm1(self.control)),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Trend:
    """A gated case on one machine.

    Attributes:
        case: "SIZE WORKLOAD CONTENDER".
        fingerprint: The machine's.
        history: Its rows, oldest first: of the frame of `compare.compare_cases`, those with the newest one's work.
        other_work: How many runs held other work under the same name, and are left out.
        changes: In order.
    """

    case: str
    fingerprint: str
    history: Sequence[Row]
    other_work: int
    changes: Sequence[LastingChange]

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "case": self.case,
            "machine": self.fingerprint,
            "runs": len(self.history),
            "runs_of_other_work": self.other_work,
            "changes": [one.to_json() for one in self.changes],
        }


def find_trends(history: pd.DataFrame, cases: Sequence[str], notes: Mapping[str, str]) -> list[Trend]:
    """The trend of each gated case on each machine that has measured it.

    Args:
        history: The frame of `compare.compare_cases`, of all runs.
        cases: Names of gated cases.
        notes: Of `notes.read_notes`.

    Returns:
        In the order of machines, then of cases.
    """
    by_age = history.sort_values(["datetime", "run"], kind="stable")
    of_case = {case: by_age[by_age["group"] + " " + by_age["contender"] == case] for case in cases}
    found = []
    for fingerprint in history["fingerprint"].unique():
        of_machine = by_age[by_age["fingerprint"] == fingerprint]
        runs = list(dict.fromkeys(of_machine["run"]))
        for case, all_rows in of_case.items():
            rows: list[Row] = list(all_rows[all_rows["fingerprint"] == fingerprint].to_dict("records"))
            if rows:
                own = [row for row in rows if work_of(row) == work_of(rows[-1])]
                changes = list(_changes(own, runs, notes))
                found.append(Trend(case, str(fingerprint), own, len(rows) - len(own), changes))
    return found


def work_of(row: Row) -> tuple[Any, ...]:
    """All that makes two pieces of work the same."""
    return tuple(row[name] for name in WORK)


def _changes(rows: Sequence[Row], runs: Sequence[str], notes: Mapping[str, str]) -> Iterator[LastingChange]:
    changes = find_changes([row["median_s"] for row in rows])
    places = [0, *(one.first_after for one in changes), len(rows)]
    controls_s = np.array([row["baseline_median_s"] for row in rows])
    for index, one in enumerate(changes):
        before, after = rows[one.last_before], rows[one.first_after]
        there = runs[runs.index(before["run"]) + 1 : runs.index(after["run"]) + 1]
        said = [notes[run] for run in there if run in notes]
        if one.drift:
            half = len(rows) // 2
            sides = controls_s[:half], controls_s[half:]
        else:
            sides = controls_s[places[index] : places[index + 1]], controls_s[places[index + 1] : places[index + 2]]
        yield LastingChange(one, before, after, _effect(*sides), said)


def _effect(before_s: np.ndarray, after_s: np.ndarray) -> float | None:
    known = [side[~np.isnan(side)] for side in (before_s, after_s)]
    if not all(map(len, known)):
        return None
    return float(np.log(np.median(known[1]) / np.median(known[0])))
