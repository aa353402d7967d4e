"""The verdict on a case's peak memory: of processes that run it alone, base and change.

It hardly moves from process to process, so few are needed; its budget and its noise floor are its own.
"""

from collections.abc import Sequence

import numpy as np

from gptloop.report.budgets import Budgets
from gptloop.report.statistics import Estimate, paired_estimate
from gptloop.report.verdicts import Floor, Quantity, Verdict, missing, verdict

NOT_MEASURED = "no peak memory was measured of it on both sides"


def memory_effects(base_bytes: Sequence[float], change_bytes: Sequence[float]) -> list[float]:
    """Log-ratios of the peak memory of processes, change over base, pair by pair."""
    return [float(np.log(change / base)) for base, change in zip(base_bytes, change_bytes, strict=True)]


def judge_memory(
    case: str,
    base_bytes: Sequence[float | None],
    change_bytes: Sequence[float | None],
    budgets: Budgets,
    floor: Floor,
    trouble: str | None = None,
) -> Verdict:
    """The verdict on a case.

    Args:
        case: Its name.
        base_bytes: Peak memory of each process of the base; None where the system did not tell.
        change_bytes: Of as many of the change.
        budgets: Those of memory among them.
        floor: The noise floor of so many processes.
        trouble: Why the two sides cannot be compared, if so.
    """
    base = [one for one in base_bytes if one]
    change = [one for one in change_bytes if one]
    if not base or len(base) != len(base_bytes) or len(change) != len(base):
        return missing(case, budgets.memory[case], NOT_MEASURED, Quantity.MEMORY)
    effects = memory_effects(base, change)
    # Of a single process of each side nobody knows the spread: that is for the noise floor.
    estimate = paired_estimate(effects) if len(effects) > 1 else Estimate(*[effects[0]] * 3)
    return verdict(
        case,
        estimate,
        budgets,
        floor,
        trouble,
        quantity=Quantity.MEMORY,
        base_bytes=float(np.median(base)),
        change_bytes=float(np.median(change)),
    )
