"""Verdicts on measured pairs, with the PyTorch loop beside them as the control for drift, and the page made of them.

Knows nothing of processes or files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.gate.work import CONTROL
from gptloop.report.budgets import Budgets
from gptloop.report.calibration import Calibration, assumed_floor
from gptloop.report.machine import Machine
from gptloop.report.markdown import escape
from gptloop.report.statistics import paired_estimate, process_effect
from gptloop.report.text import duration_text, hardware_text
from gptloop.report.verdicts import Verdict, missing, percent_text, verdict, verdicts_table, verdicts_text


def judge_pairs(
    pairs: Sequence[Mapping[str, Any]],
    lacking: Mapping[str, str],
    budgets: Budgets,
    calibration: Calibration | None,
) -> list[Verdict]:
    """Verdicts on every gated case.

    Args:
        pairs: As `benchmarks.gate.pair.measure_pair` records them.
        lacking: Cases that could not be measured, and why.
        budgets: The gated cases.
        calibration: This machine's, if it has one.
    """
    trouble = _trouble(pairs, budgets)
    verdicts = []
    for case, budget in budgets.cases.items():
        if case in lacking:
            verdicts.append(missing(case, budget, lacking[case]))
            continue
        of_case = [pair["cases"][case] for pair in pairs]
        floor = assumed_floor(budgets.paired_floor)
        if calibration:
            floor = calibration.paired_floor(
                case, processes=len(pairs), cases=len(budgets.cases), assumed=budgets.paired_floor
            )
        effects = [process_effect(arms["base"], arms["change"]) for arms in of_case]
        verdicts.append(
            verdict(
                case,
                paired_estimate(effects),
                budgets,
                floor,
                trouble,
                base_s=_median([arms["base"] for arms in of_case]),
                change_s=_median([arms["change"] for arms in of_case]),
            )
        )
    return verdicts


def control_drift(pairs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The control's median in seconds, and the farthest that a process was from it, as a log-ratio."""
    medians = [float(np.median(pair["control_s"])) for pair in pairs]
    middle = float(np.median(medians))
    return middle, float(max(abs(np.log(np.array(medians) / middle))))


def markdown(record: Mapping[str, Any], verdicts: Sequence[Verdict], here: Machine, budgets: Budgets) -> str:
    """What a person reads of a comparison."""
    base, change = (record[side] for side in ("base", "change"))
    dirty = " with uncommitted changes" if change["dirty"] else ""
    pairs = record["pairs"]
    lines = [
        "# Regression gate: change against base",
        f"ONNX loop of {change['id'][:10]}{dirty} against {base['id'][:10]}, {len(pairs)} pairs of fresh processes, "
        f"{record['rounds']} rounds of alternating calls each, seeded random weights; "
        f"{escape(hardware_text(here))}.",
        *(["**Tiny models (--smoke): the times mean nothing.**"] if record["smoke"] else []),
        verdicts_text(verdicts),
        verdicts_table(verdicts),
    ]
    if pairs:
        middle, drift = control_drift(pairs)
        lines.append(
            f"Control: the PyTorch loop ({CONTROL.name}) took {duration_text(middle)}; from process to process it "
            f"moved by up to {_percent(drift)} (limit {_percent(np.log1p(budgets.drift))})."
        )
    lines.append(
        "A regression is an effect above the noise floor (calibrated on this machine by `python -m benchmarks.prove`, "
        "else assumed) whose 95 % interval excludes the budget; `missing` and `unstable` are never a pass. Budgets: "
        f"`{os.path.relpath(budgets.path)}`."
    )
    return "\n\n".join(lines)


def _trouble(pairs: Sequence[Mapping[str, Any]], budgets: Budgets) -> str | None:
    """Why none of the pairs can be trusted, or None."""
    if not pairs:
        return None
    if (drift := control_drift(pairs)[1]) > np.log1p(budgets.drift):
        return (
            f"the PyTorch loop beside it moved by {_percent(drift)} from process to process, more than the "
            f"{_percent(np.log1p(budgets.drift))} allowed as drift: the machine was disturbed. Measure again"
        )
    return None


def _percent(effect: float) -> str:
    return percent_text(effect)[1:]


def _median(rounds: Sequence[Sequence[float]]) -> float:
    return float(np.median([np.median(of_process) for of_process in rounds]))
