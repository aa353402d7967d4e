"""The verdict on a case, the exit code of a run, and both in words.

A regression needs two things: an effect above the noise floor that A/A processes of this machine have shown, and an
interval that excludes the budget. What cannot be judged is never a pass. Does not know where numbers come from.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptloop.report.budgets import Budgets
from gptloop.report.markdown import escape, table
from gptloop.report.statistics import Estimate
from gptloop.report.text import DASH, duration_text, ratio_text

FEWEST_PROCESSES = 3
FEWEST_ROUNDS = 2


class Value(enum.StrEnum):
    """What is said of a case."""

    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    REGRESSION = "regression"
    MISSING = "missing"
    UNSTABLE = "unstable"


@dataclass(frozen=True)
class Floor:
    """The noise floor of a case, and whether A/A processes of this machine have shown it."""

    effect: float
    calibrated: bool


@dataclass(frozen=True)
class Verdict:
    """What is said of a case, and why.

    Attributes:
        case: "SIZE WORKLOAD CONTENDER".
        value: The verdict.
        reason: A sentence for a person who knows nothing of this run.
        budget: Fraction of time.
        floor: The noise floor, or None where nothing was measured.
        estimate: The effect, as log-ratios, or None where nothing was measured.
        base_s: Median of the base's rounds.
        change_s: Median of the change's.
        base_speedup: Over the PyTorch loop measured beside it, or None where none was.
        change_speedup: The same.
    """

    case: str
    value: Value
    reason: str
    budget: float
    floor: Floor | None = None
    estimate: Estimate | None = None
    base_s: float | None = None
    change_s: float | None = None
    base_speedup: float | None = None
    change_speedup: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For machines: effects as fractions of the base's time."""
        effect, low, high = (_fraction(x) for x in self.estimate) if self.estimate else (None, None, None)
        return {
            "case": self.case,
            "verdict": self.value.value,
            "reason": self.reason,
            "effect": effect,
            "interval": [low, high],
            "budget": self.budget,
            "noise_floor": _fraction(self.floor.effect) if self.floor else None,
            "noise_floor_calibrated": self.floor.calibrated if self.floor else None,
            "base_s": self.base_s,
            "change_s": self.change_s,
            "base_speedup": self.base_speedup,
            "change_speedup": self.change_speedup,
        }


def judge(estimate: Estimate, *, budget: float, floor: float, resolution: float) -> Value:
    """The verdict on an effect.

    Args:
        estimate: As log-ratios.
        budget: Fraction of time that is allowed.
        floor: Log-ratio that is noise.
        resolution: Fraction of time above which a floor hides too much.
    """
    allowed = float(np.log1p(budget))
    if estimate.effect > floor and estimate.low > allowed:
        return Value.REGRESSION
    if estimate.effect < -floor and estimate.high < 0:
        return Value.IMPROVED
    if floor > np.log1p(resolution) or (estimate.high - estimate.low) / 2 > max(floor, allowed):
        return Value.UNSTABLE  # too noisy, or too wide, to tell a change that counts from none
    return Value.UNCHANGED


def verdict(
    case: str, estimate: Estimate, budgets: Budgets, floor: Floor, trouble: str | None = None, **times: float | None
) -> Verdict:
    """The verdict on a case that was measured, with its reason.

    Args:
        case: Its name.
        estimate: Its effect.
        budgets: The gated cases'.
        floor: Its noise floor.
        trouble: Why the measurement cannot be trusted at all, if so.
        times: `base_s` and the like, passed on.
    """
    budget = budgets.cases[case]
    value = Value.UNSTABLE
    if not trouble:
        value = judge(estimate, budget=budget, floor=floor.effect, resolution=budgets.resolution)
    reason = trouble or _reason(value, estimate, budget, floor)
    return Verdict(case, value, reason, budget, floor, estimate, **times)


def missing(case: str, budget: float, reason: str) -> Verdict:
    """A gated case of which there is no measurement."""
    return Verdict(case, Value.MISSING, reason, budget)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 fine, 1 a regression, 2 something could not be judged; a regression outranks the rest."""
    values = {one.value for one in verdicts}
    if Value.REGRESSION in values:
        return 1
    return 2 if not values or values & {Value.MISSING, Value.UNSTABLE} else 0


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a Markdown table, and a line on each that is not `unchanged`."""
    headers = ["case", "verdict", "change of time", "95 % interval", "noise floor", "budget", "base", "change"]
    with_speedup = any(one.change_speedup is not None for one in verdicts)
    headers += ["speedup over PyTorch"] * with_speedup
    rows = [[*_cells(one), *([_speedup_cell(one)] * with_speedup)] for one in verdicts]
    cases: dict[tuple[Value, str], list[str]] = {}
    for one in verdicts:
        if one.value is not Value.UNCHANGED:
            cases.setdefault((one.value, one.reason), []).append(one.case)
    lines = [f"- **{value}**, {escape(', '.join(of))}: {escape(reason)}" for (value, reason), of in cases.items()]
    return "\n\n".join([table(headers, rows, "ll" + "r" * (len(headers) - 2)), *(["\n".join(lines)] if lines else [])])


def verdicts_text(verdicts: Sequence[Verdict]) -> str:
    """What they add up to, in a sentence."""
    regressions = [one.case for one in verdicts if one.value is Value.REGRESSION]
    unjudged = [one.case for one in verdicts if one.value in (Value.MISSING, Value.UNSTABLE)]
    if regressions:
        return f"**The gate fails: {_count(len(regressions))} slower than allowed ({escape(', '.join(regressions))}).**"
    if unjudged or not verdicts:
        return f"**The gate cannot judge {_count(len(unjudged))} ({escape(', '.join(unjudged))}); that is not a pass.**"
    return f"**The gate passes: none of {_count(len(verdicts))} became slower than allowed.**"


def percent_text(effect: float) -> str:
    """A log-ratio as the change of time that it is: `+4.2 %`."""
    return f"{_fraction(effect):+.1%}".replace("%", " %")


def _count(cases: int) -> str:
    return f"{cases} gated {'case' if cases == 1 else 'cases'}"


def _fraction(effect: float) -> float:
    return float(np.expm1(effect))


def _cells(one: Verdict) -> list[str]:
    effect, interval = DASH, DASH
    if one.estimate:
        effect = percent_text(one.estimate.effect)
        interval = f"{percent_text(one.estimate.low)} to {percent_text(one.estimate.high)}"
    floor = DASH
    if one.floor:
        floor = f"{percent_text(one.floor.effect)[1:]}{'' if one.floor.calibrated else ' (assumed)'}"
    times = [DASH if s is None else duration_text(s) for s in (one.base_s, one.change_s)]
    return [one.case, one.value.value, effect, interval, floor, f"{one.budget:.1%}".replace("%", " %"), *times]


def _speedup_cell(one: Verdict) -> str:
    before, after = (DASH if x is None else ratio_text(x) for x in (one.base_speedup, one.change_speedup))
    return f"{before} before, {after} now"


def _reason(value: Value, estimate: Estimate, budget: float, floor: Floor) -> str:
    effect, low, high = map(percent_text, estimate)
    noise = f"{percent_text(floor.effect)[1:]} {'calibrated' if floor.calibrated else 'assumed'} noise floor"
    measured = f"{effect} time (95 % interval {low} to {high})"
    allowed = f"{budget:.1%}".replace("%", " %")
    if value is Value.REGRESSION:
        return (
            f"{measured}: slower by more than the budget of {allowed}, and more than the {noise} of this machine "
            "explains. If that is meant, raise the case's budget; if not, compare what 'gptloop inspect' says of both "
            "exports, then profiles"
        )
    if value is Value.IMPROVED:
        return f"{measured}: faster by more than the {noise}. A stored baseline may be updated"
    if value is Value.UNSTABLE:
        return (
            f"{measured}: the {noise} is too high, or the interval too wide, to tell a change that counts from none. "
            "Measure again on a quieter machine, or with more processes or rounds"
        )
    return f"{measured}: within the budget of {allowed} or the {noise}"
