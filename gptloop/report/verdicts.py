"""The verdict on a case, with its reason, and the exit code of a run.

A regression needs two things: an effect above the noise floor that A/A processes of this machine have shown, and an
interval that excludes the budget. What cannot be judged is never a pass. Does not know where numbers come from.
"""

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptloop.report.budgets import Budgets
from gptloop.report.statistics import Estimate

FEWEST_PROCESSES, MOST_PROCESSES = 3, 20  # of each side; 20 pairs take a quarter of an hour
FEWEST_ROUNDS = 2
CANNOT_JUDGE = 2  # an exit code


class Value(enum.StrEnum):
    """What is said of a case."""

    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    REGRESSION = "regression"
    MISSING = "missing"
    UNSTABLE = "unstable"


class Quantity(enum.StrEnum):
    """What is judged of a case."""

    TIME = "time"
    MEMORY = "peak memory"


@dataclass(frozen=True)
class Floor:
    """The noise floor of a case.

    Attributes:
        effect: As a log-ratio.
        calibrated: Whether A/A processes of this machine have shown it.
        processes: Of each side, that the effect below which it lies is the mean of.
    """

    effect: float
    calibrated: bool
    processes: int = 1


@dataclass(frozen=True)
class Verdict:
    """What is said of a case, and why.

    Attributes:
        case: "SIZE WORKLOAD CONTENDER".
        value: The verdict.
        reason: A sentence for a person who knows nothing of this run.
        budget: Fraction of the base's.
        quantity: What is judged.
        floor: The noise floor, or None where nothing was measured.
        estimate: The effect, as log-ratios, or None where nothing was measured.
        base_s: Median of the base's rounds.
        change_s: Median of the change's.
        base_bytes: Median of the base's peak memory, where that is judged.
        change_bytes: The same of the change's.
        base_speedup: Over the PyTorch loop measured beside it, or None where none was.
        change_speedup: The same.
    """

    case: str
    value: Value
    reason: str
    budget: float
    quantity: Quantity = Quantity.TIME
    floor: Floor | None = None
    estimate: Estimate | None = None
    base_s: float | None = None
    change_s: float | None = None
    base_bytes: float | None = None
    change_bytes: float | None = None
    base_speedup: float | None = None
    change_speedup: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For machines: effects as fractions of the base's time or memory."""
        effect, low, high = (_fraction(x) for x in self.estimate) if self.estimate else (None, None, None)
        return {
            "case": self.case,
            "quantity": self.quantity.value,
            "verdict": self.value.value,
            "reason": self.reason,
            "effect": effect,
            "interval": [low, high],
            "budget": self.budget,
            "noise_floor": _fraction(self.floor.effect) if self.floor else None,
            "noise_floor_calibrated": self.floor.calibrated if self.floor else None,
            "base_s": self.base_s,
            "change_s": self.change_s,
            "base_bytes": self.base_bytes,
            "change_bytes": self.change_bytes,
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
    case: str,
    estimate: Estimate,
    budgets: Budgets,
    floor: Floor,
    trouble: str | None = None,
    *,
    quantity: Quantity = Quantity.TIME,
    **sides: float | None,
) -> Verdict:
    """The verdict on a case that was measured, with its reason.

    Args:
        case: Its name.
        estimate: Its effect.
        budgets: The gated cases'.
        floor: Its noise floor.
        trouble: Why the measurement cannot be trusted at all, if so.
        quantity: What was measured.
        sides: `base_s` and the like, passed on.
    """
    budget = budgets.cases[case] if quantity is Quantity.TIME else budgets.memory[case]
    value = Value.UNSTABLE
    if not trouble:
        value = judge(estimate, budget=budget, floor=floor.effect, resolution=budgets.resolution)
    reason = trouble or _reason(value, quantity, estimate, budget, floor, budgets.resolution)
    return Verdict(case, value, reason, budget, quantity, floor, estimate, **sides)


def missing(case: str, budget: float, reason: str, quantity: Quantity = Quantity.TIME) -> Verdict:
    """A gated case of which there is no measurement."""
    return Verdict(case, Value.MISSING, reason, budget, quantity)


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """0 fine, 1 a regression, 2 something could not be judged; a regression outranks the rest."""
    values = {one.value for one in verdicts}
    if Value.REGRESSION in values:
        return 1
    return CANNOT_JUDGE if not values or values & {Value.MISSING, Value.UNSTABLE} else 0


def percent_text(effect: float) -> str:
    """A log-ratio as the change of time that it is: `+4.2 %`."""
    return f"{_fraction(effect):+.1%}".replace("%", " %")


def budget_text(budget: float) -> str:
    """A fraction as a budget is written: `2.0 %`."""
    return f"{budget:.1%}".replace("%", " %")


def _fraction(effect: float) -> float:
    return float(np.expm1(effect))


def _reason(
    value: Value, quantity: Quantity, estimate: Estimate, budget: float, floor: Floor, resolution: float
) -> str:
    effect, low, high = map(percent_text, estimate)
    noise = f"{percent_text(floor.effect)[1:]} {'calibrated' if floor.calibrated else 'assumed'} noise floor"
    measured = f"{effect} {quantity} (95 % interval {low} to {high})"
    if value is Value.REGRESSION:
        return (
            f"{measured}: more than the budget of {budget_text(budget)}, and more than the {noise} of this machine "
            "explains. If that is meant, raise the case's budget"
        )
    if value is Value.IMPROVED:
        return f"{measured}: less by more than the {noise}. A stored baseline may be updated"
    if value is Value.UNSTABLE and floor.effect > np.log1p(resolution):
        too_high = f"the {noise} is above the resolution of {budget_text(resolution)}"
        return f"{measured}: {too_high}. {_remedy(floor, resolution)}"
    if value is Value.UNSTABLE:
        return (
            f"{measured}: the interval is too wide to tell a change that counts from none. Measure again on a quieter "
            "machine, or with more processes or rounds"
        )
    return f"{measured}: within the budget of {budget_text(budget)} or the {noise}"


def _remedy(floor: Floor, resolution: float) -> str:
    """What would bring a floor down to the resolution: it falls with the square root of the number of processes."""
    wanted = math.ceil(floor.processes * (floor.effect / np.log1p(resolution)) ** 2)
    pins = (
        "pin the cores (taskset, on cores kept free with isolcpus) or leave the machine to the gate, and calibrate it"
    )
    if wanted > MOST_PROCESSES:
        return (
            f"More processes do not bring it down in reasonable time ({wanted} of each side would): {pins} again "
            "(python -m benchmarks.prove)"
        )
    return (
        f"{wanted} processes of each side bring it down (python -m benchmarks.change --processes {wanted}; this is "
        f"with {floor.processes}); or {pins} again (python -m benchmarks.prove)"
    )
