"""The proof of the gate, counted: suite runs drawn from measured pairs, judged as the gate judges.

Knows pairs and budgets; nothing of how they were measured, or of a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gate.comparison import GOES
from benchmarks.gate.judge import undisturbed
from benchmarks.gate.work import TWO_SIDES, Arms
from gptloop.report.budgets import Budgets
from gptloop.report.calibration import Calibration
from gptloop.report.statistics import Estimate, paired_estimate, process_effect
from gptloop.report.verdicts import Value, judge

DRAWS = 1000  # suite runs drawn from the test pairs
SLOWER = {"slower by 5 %": 0.05, "slower by 10 %": 0.10}
ARMS: Arms = {**TWO_SIDES, **{arm: ("change", slower) for arm, slower in SLOWER.items()}}
# What issue and design ask for.
MOST_FALSE_ALARMS, MOST_UNSTABLE = 0.02, 0.03
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
    """The result: by case, and false alarms (and other verdicts without a change) by suite run.

    Attributes:
        cases: By name.
        measured_again: Suite runs that could not be judged at first.
    """

    cases: Mapping[str, CaseProof]
    false_alarms: float
    falsely_improved: float
    unstable: float
    measured_again: float

    @property
    def holds(self) -> bool:
        """Whether every target is met, in the worst case."""
        caught = all(
            case.regressions[arm] >= least for case in self.cases.values() for arm, least in FEWEST_CAUGHT.items()
        )
        return self.false_alarms <= MOST_FALSE_ALARMS and self.unstable <= MOST_UNSTABLE and caught


def prove(pairs: Sequence[Mapping[str, Any]], calibration: Calibration, budgets: Budgets, processes: int) -> Proof:
    """Judge suite runs drawn from the test pairs.

    A suite run is `processes` different pairs, drawn at random from the test pairs; all its cases come from the same
    pairs, as in a real run. One that cannot be judged goes on to twice as many, again as a real one does. Drawn runs
    share pairs, so their number sharpens the count, not the evidence: that is what the test pairs hold.

    Args:
        pairs: The test pairs.
        calibration: Of the others.
        budgets: The gated cases.
        processes: Pairs in a suite run.
    """
    effects = {arm: _effects(arm, pairs, budgets) for arm in ARMS if arm != "base"}
    goes = {arm: _goes(of_arm, pairs, calibration, budgets, processes) for arm, of_arm in effects.items()}
    last = {arm: of_arm[-1] for arm, of_arm in goes.items()}
    cases = {
        case: CaseProof(
            floor=_floor(case, calibration, budgets, processes),
            spread=float(effects["change"][index].std(ddof=1)),
            regressions={arm: float(np.mean(of_arm[index] == Value.REGRESSION)) for arm, of_arm in last.items()},
            unstable={arm: float(np.mean(of_arm[index] == Value.UNSTABLE)) for arm, of_arm in last.items()},
            effects={arm: float(of_arm[index].mean()) for arm, of_arm in effects.items()},
        )
        for index, case in enumerate(budgets.cases)
    }
    values = (Value.REGRESSION, Value.IMPROVED, Value.UNSTABLE)
    false_alarms, improved, unstable = (float((last["change"] == value).any(0).mean()) for value in values)
    return Proof(cases, false_alarms, improved, unstable, float(_undecided(goes["change"][0]).mean()))


def unstable_shares(
    pairs: Sequence[Mapping[str, Any]], calibration: Calibration, budgets: Budgets, processes: int
) -> tuple[float, float]:
    """Which share of suite runs of so many pairs, without a change, is measured again, and unstable in the end."""
    first, last = _goes(_effects("change", pairs, budgets), pairs, calibration, budgets, processes)
    return float(_undecided(first).mean()), float((last == Value.UNSTABLE).any(0).mean())


def _effects(arm: str, pairs: Sequence[Mapping[str, Any]], budgets: Budgets) -> Any:
    """Of an arm, [cases, pairs]."""
    return np.array(
        [
            [process_effect(pair["cases"][case]["base"], pair["cases"][case][arm]) for pair in pairs]
            for case in budgets.cases
        ]
    )


def _goes(
    effects: Any, pairs: Sequence[Mapping[str, Any]], calibration: Calibration, budgets: Budgets, processes: int
) -> list[Any]:
    """Verdicts [cases, DRAWS] after each go: those that stand are kept, the others judged of all pairs so far."""
    rng = np.random.default_rng(0)
    runs = np.array([rng.permutation(len(pairs)) for _ in range(DRAWS)])
    verdicts = [_judged(effects, pairs, runs[:, :processes], calibration, budgets, wanted=processes)]
    for go in range(2, GOES + 1):
        again = _undecided(verdicts[-1])
        verdicts.append(verdicts[-1].copy())
        verdicts[-1][:, again] = _judged(
            effects, pairs, runs[again, : go * processes], calibration, budgets, wanted=processes
        )
    return verdicts


def _undecided(values: Any) -> Any:
    """Which suite runs are measured again, of verdicts [cases, DRAWS]."""
    return (values == Value.UNSTABLE).any(0) & ~(values == Value.REGRESSION).any(0)


def _judged(
    effects: Any,
    pairs: Sequence[Mapping[str, Any]],
    runs: Any,
    calibration: Calibration,
    budgets: Budgets,
    *,
    wanted: int,
) -> Any:
    """Verdicts [cases, DRAWS] on suite runs [DRAWS, processes] of effects [cases, pairs], as `judge_pairs` has them."""
    kept = []
    for run in runs.tolist():
        of_run = [pairs[index] | {"index": index} for index in run]
        kept.append([pair["index"] for pair in undisturbed(of_run, budgets)])
    verdicts = np.full((len(effects), len(runs)), Value.UNSTABLE, dtype=object)
    for count in {len(of_run) for of_run in kept if len(of_run) >= wanted}:
        draws = [index for index, of_run in enumerate(kept) if len(of_run) == count]
        indices = np.array([kept[draw] for draw in draws])
        for row, (case, budget) in enumerate(budgets.cases.items()):
            floor = _floor(case, calibration, budgets, count)
            limits = {"budget": budget, "floor": floor, "resolution": budgets.resolution}
            estimates = zip(*paired_estimate(effects[row][indices]), strict=True)
            verdicts[row, draws] = [judge(Estimate(*one), **limits) for one in estimates]
    return verdicts


def _floor(case: str, calibration: Calibration, budgets: Budgets, processes: int) -> float:
    return calibration.paired_floor(case, processes=processes, cases=len(budgets.cases), assumed=0.0).effect
