"""A comparison from its first export to its verdicts: prepared, measured, measured again where nothing can be judged.

Knows the order of these; how each is done stands in its own module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.command.checkout import ROOT, commit_info
from benchmarks.command.scratch import scratch
from benchmarks.gate.judge import judge_pairs, judge_peaks, more_would_judge
from benchmarks.gate.memory import measure_peaks
from benchmarks.gate.pair import measure_pair
from benchmarks.gate.prepare import prepare
from benchmarks.gate.profiling import profile_case
from benchmarks.gate.work import TWO_SIDES, Files, Work
from benchmarks.measuring.measurement import Say
from gptloop.report.budgets import Budgets
from gptloop.report.calibration import Calibration
from gptloop.report.explanation import explain as explained
from gptloop.report.verdicts import Value, Verdict

REPORTS = "reports"  # what they hold is no part of what is measured
GOES = 2  # a second one has twice the pairs; what it cannot judge, a longer wait would not
PEAKS = 3  # processes that tell a case's peak memory, which hardly moves


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        verdicts: On time, then on peak memory.
        measured: For JSON: both commits, the cases that could not be measured and why, the raw pairs and peaks.
        explanations: Of `gptloop.report.explanation.explain`.
    """

    verdicts: Sequence[Verdict]
    measured: dict[str, Any]
    explanations: Sequence[dict[str, Any]]


def compare(
    base: Path, work: Work, budgets: Budgets, calibration: Calibration | None, *, wanted: int, explain: str, say: Say
) -> Comparison:
    """Compare the working tree with a base.

    Args:
        base: The base's tree.
        work: What is measured.
        budgets: What is allowed.
        calibration: This machine's, if it has one.
        wanted: How many pairs; twice as many where these cannot be judged.
        explain: Which cases are explained: "slower", "all" or "none".
        say: Takes one line of progress at a time.
    """
    commits = {"base": commit_info(base, REPORTS), "change": commit_info(ROOT, REPORTS)}  # what fails, fails first
    with scratch("change") as folder:
        files = Files(folder, {"base": base, "change": ROOT})
        lacking = prepare(files, work, say)
        work = replace(work, cases=[case for case in work.cases if case.name not in lacking])
        peaks = _peaks(files, work, say) if budgets.memory and work.cases else []
        of_memory = judge_peaks(peaks, lacking, budgets, calibration)
        pairs: list[dict[str, Any]] = []
        for _ in range(GOES):
            pairs += _pairs(files, work, wanted, say)
            of_time = judge_pairs(pairs, lacking, budgets, calibration, wanted=wanted)
            if not (work.cases and more_would_judge([*of_time, *of_memory])):
                break
            say("nothing can be judged of these pairs")
        verdicts = [*of_time, *of_memory]
        explanations = _explanations(files, work, verdicts, explain, say)
    measured = {**commits, "rounds": work.rounds, "wanted": wanted, "missing": lacking, "pairs": pairs, "peaks": peaks}
    return Comparison(verdicts, measured, explanations)


def _pairs(files: Files, work: Work, count: int, say: Say) -> list[dict[str, Any]]:
    pairs = []
    for index in range(count if work.cases else 0):
        say(f"pair {index + 1} of {count}")
        pairs.append(measure_pair(files, work, TWO_SIDES))
    return pairs


def _peaks(files: Files, work: Work, say: Say) -> list[dict[str, Any]]:
    say("peak memory")
    return [measure_peaks(files, work) for _ in range(PEAKS)]


def _explanations(
    files: Files, work: Work, verdicts: Sequence[Verdict], explain: str, say: Say
) -> list[dict[str, Any]]:
    """Of the cases that became slower, or take more memory."""
    worse = {one.case for one in verdicts if one.value is Value.REGRESSION}
    found = []
    for case in work.cases:
        if explain == "all" or (explain == "slower" and case.name in worse):
            say(f"{case.name} under ONNX Runtime's profiler")
            profiles = profile_case(files, case, work)
            found.append(explained(case.name, profiles["base"], profiles["change"]))
    return found
