"""Verdicts on measured pairs, with the PyTorch loop beside them as the control for drift.

Knows nothing of processes or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gptloop.report.budgets import Budgets
from gptloop.report.calibration import Calibration, assumed_floor
from gptloop.report.memory import judge_memory
from gptloop.report.statistics import paired_estimate, process_effect
from gptloop.report.verdicts import (
    FEWEST_PROCESSES,
    Floor,
    Quantity,
    Value,
    Verdict,
    exit_code,
    missing,
    percent_text,
    verdict,
)

Pairs = Sequence[Mapping[str, Any]]


def judge_pairs(
    pairs: Pairs,
    lacking: Mapping[str, str],
    budgets: Budgets,
    calibration: Calibration | None,
    *,
    wanted: int = FEWEST_PROCESSES,
) -> list[Verdict]:
    """Verdicts on the time of every gated case.

    Args:
        pairs: As `benchmarks.gate.pair.measure_pair` records them; those whose control moved are set aside.
        lacking: Cases that could not be measured, and why.
        budgets: The gated cases.
        calibration: This machine's, if it has one.
        wanted: The fewest pairs that a verdict is made of.
    """
    kept = undisturbed(pairs, budgets)
    trouble = _trouble(pairs, kept, wanted, budgets)
    judged = pairs if trouble else kept
    verdicts = []
    for case, budget in budgets.cases.items():
        if case in lacking:
            verdicts.append(missing(case, budget, lacking[case]))
            continue
        of_case = [pair["cases"][case] for pair in judged]
        verdicts.append(
            verdict(
                case,
                paired_estimate([process_effect(arms["base"], arms["change"]) for arms in of_case]),
                budgets,
                _floor(case, len(judged), budgets, calibration),
                trouble,
                base_s=_median([arms["base"] for arms in of_case]),
                change_s=_median([arms["change"] for arms in of_case]),
            )
        )
    return verdicts


def judge_peaks(
    peaks: Pairs, lacking: Mapping[str, str], budgets: Budgets, calibration: Calibration | None
) -> list[Verdict]:
    """Verdicts on the peak memory of every gated case, where that is gated.

    Args:
        peaks: As `benchmarks.gate.memory.measure_peaks` records them.
        lacking: As above.
        budgets: As above.
        calibration: As above.
    """
    verdicts = []
    for case, budget in budgets.memory.items():
        if case in lacking:
            verdicts.append(missing(case, budget, lacking[case], Quantity.MEMORY))
            continue
        floor = assumed_floor(budgets.memory_floor, len(peaks))
        if calibration:
            floor = calibration.memory_floor(
                case, processes=len(peaks), cases=len(budgets.memory), assumed=budgets.memory_floor
            )
        base, change = ([one[case][side] for one in peaks] for side in ("base", "change"))
        verdicts.append(judge_memory(case, base, change, budgets, floor))
    return verdicts


def more_would_judge(verdicts: Sequence[Verdict]) -> bool:
    """Whether more pairs may bring a judgement where these bring none."""
    return exit_code(verdicts) == 2 and any(
        one.value is Value.UNSTABLE and one.quantity is Quantity.TIME for one in verdicts
    )


def control_drift(pairs: Pairs) -> tuple[float, float]:
    """The control's median in seconds, and the farthest that a process was from it, as a log-ratio."""
    middle_s, moved = _control(pairs)
    return middle_s, float(max(moved))


def undisturbed(pairs: Pairs, budgets: Budgets) -> Pairs:
    """The pairs beside which the PyTorch loop, which no change touches, took its usual time."""
    if not pairs:
        return pairs
    _, moved = _control(pairs)
    return [pair for pair, by in zip(pairs, moved, strict=True) if by <= np.log1p(budgets.drift)]


def _control(pairs: Pairs) -> tuple[float, Sequence[float]]:
    medians_s = np.array([np.median(pair["control_s"]) for pair in pairs])
    middle_s = float(np.median(medians_s))
    return middle_s, np.abs(np.log(medians_s / middle_s)).tolist()


def _trouble(pairs: Pairs, kept: Pairs, wanted: int, budgets: Budgets) -> str | None:
    """Why the pairs cannot be trusted, or None."""
    if len(kept) == len(pairs) or len(kept) >= wanted:
        return None
    return (
        f"the PyTorch loop beside it moved by up to {percent_text(control_drift(pairs)[1])[1:]} from process to "
        f"process, in {len(pairs) - len(kept)} of {len(pairs)} pairs by more than the "
        f"{percent_text(np.log1p(budgets.drift))[1:]} allowed as drift: the machine was disturbed. Measure again"
    )


def _floor(case: str, processes: int, budgets: Budgets, calibration: Calibration | None) -> Floor:
    if calibration is None:
        return assumed_floor(budgets.paired_floor, processes)
    return calibration.paired_floor(case, processes=processes, cases=len(budgets.cases), assumed=budgets.paired_floor)


def _median(rounds: Sequence[Sequence[float]]) -> float:
    return float(np.median([np.median(of_process) for of_process in rounds]))
