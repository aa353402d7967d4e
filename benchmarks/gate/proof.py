"""The proof of the gate, counted: suite runs drawn from measured pairs, judged as the gate judges.

Knows pairs and budgets; nothing of how they were measured, or of a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gate.work import TWO_SIDES, Arms
from gptloop.report.budgets import Budgets
from gptloop.report.calibration import Calibration
from gptloop.report.statistics import Estimate, paired_estimate, process_effect
from gptloop.report.verdicts import Value, judge

DRAWS = 1000  # suite runs drawn from the test pairs
SLOWER = {"slower by 5 %": 0.05, "slower by 10 %": 0.10}
ARMS: Arms = {**TWO_SIDES, **{arm: ("change", slower) for arm, slower in SLOWER.items()}}
# What issue and design ask for.
MOST_FALSE_ALARMS = 0.02
FEWEST_CAUGHT = {"slower by 5 %": 15 / 20, "slower by 10 %": 19 / 20}


@dataclass(frozen=True)
class CaseProof:
    """What the test pairs say of a case; shares of the drawn suite runs by arm.

    Attributes:
        floor: As a log-ratio.
        spread: Standard deviation of the test pairs' A/A effects.
        regressions: How often the verdict was `regression`.
        unstable: How often it was `unstable`.
        effects: The mean effect of all test pairs.
    """

    floor: float
    spread: float
    regressions: Mapping[str, float]
    unstable: Mapping[str, float]
    effects: Mapping[str, float]


@dataclass(frozen=True)
class Proof:
    """The result: by case, and false alarms (and other verdicts without a change) by suite run."""

    cases: Mapping[str, CaseProof]
    false_alarms: float
    falsely_improved: float
    unstable: float

    @property
    def holds(self) -> bool:
        """Whether every target is met, in the worst case."""
        return self.false_alarms <= MOST_FALSE_ALARMS and all(
            case.regressions[arm] >= least for case in self.cases.values() for arm, least in FEWEST_CAUGHT.items()
        )


def prove(pairs: Sequence[Mapping[str, Any]], calibration: Calibration, budgets: Budgets, processes: int) -> Proof:
    """Judge suite runs drawn from the test pairs.

    A suite run is `processes` different pairs, drawn at random from the test pairs; all its cases come from the same
    pairs, as in a real run. Drawn runs share pairs, so their number sharpens the count, not the evidence: that is
    what the test pairs hold.

    Args:
        pairs: The test pairs.
        calibration: Of the others.
        budgets: The gated cases.
        processes: Pairs in a suite run.
    """
    rng = np.random.default_rng(0)
    runs = np.array([rng.permutation(len(pairs))[:processes] for _ in range(DRAWS)])
    cases, unchanged = {}, []
    for case, budget in budgets.cases.items():
        floor = calibration.paired_floor(case, processes=processes, cases=len(budgets.cases), assumed=0.0).effect
        limits = {"budget": budget, "floor": floor, "resolution": budgets.resolution}
        values, effects = {}, {}
        for arm in [arm for arm in ARMS if arm != "base"]:
            effects[arm] = np.array([process_effect(p["cases"][case]["base"], p["cases"][case][arm]) for p in pairs])
            estimates = zip(*paired_estimate(effects[arm][runs]), strict=True)
            values[arm] = np.array([judge(Estimate(*one), **limits) for one in estimates])
        unchanged.append(values["change"])
        cases[case] = CaseProof(
            floor=floor,
            spread=float(effects["change"].std(ddof=1)),
            regressions={arm: float(np.mean(of_arm == Value.REGRESSION)) for arm, of_arm in values.items()},
            unstable={arm: float(np.mean(of_arm == Value.UNSTABLE)) for arm, of_arm in values.items()},
            effects={arm: float(of_arm.mean()) for arm, of_arm in effects.items()},
        )
    suites = np.array(unchanged)  # [cases, DRAWS]
    shares = [float((suites == value).any(0).mean()) for value in (Value.REGRESSION, Value.IMPROVED, Value.UNSTABLE)]
    return Proof(cases, *shares)
