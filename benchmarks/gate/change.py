"""The gate of a change: `python -m benchmarks.change --base REVISION`.

Measures the ONNX loop of the working tree against that of a base revision, in pairs of fresh processes on this machine,
saves the raw pairs and the verdicts, prints them as Markdown, and exits with 0 (fine), 1 (a regression) or 2 (something
could not be judged, or measured).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.gate.turns import (
    CONTROL,
    ROOT,
    TWO_SIDES,
    Files,
    Say,
    Work,
    commit_info,
    gated_case,
    git,
    measure_pair,
    prepare,
)
from gptloop.report import ReportError, append_text, write_files
from gptloop.report.budgets import Budgets, read_budgets
from gptloop.report.calibration import Calibration, assumed_floor, find_calibration
from gptloop.report.machine import Machine, machine_of
from gptloop.report.markdown import escape
from gptloop.report.statistics import paired_estimate, process_effect
from gptloop.report.text import duration_text, hardware_text
from gptloop.report.verdicts import (
    FEWEST_PROCESSES,
    Verdict,
    exit_code,
    missing,
    percent_text,
    verdict,
    verdicts_table,
    verdicts_text,
)

KIND = "change"
PROCESSES, ROUNDS = 5, 6


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, judge, save, print.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(argv)
    try:
        budgets = read_budgets(options.budgets)
        facts = machine.facts()
        here = machine_of(facts)
        calibration = find_calibration(options.calibrations, here)  # what cannot be read is found before measuring
        if not options.output.parent.is_dir():
            raise ReportError(f"{options.output.parent}: no such folder")
        work = work_of(budgets, facts, rounds=options.rounds, smoke=options.smoke)
        with worktree(options.base) as base:
            measured = _measure(base, work, options.processes, say_after(time.monotonic()))
        verdicts = judge_pairs(measured["pairs"], measured["missing"], budgets, calibration)
        record = {
            "gptloop_kind": KIND,
            "schema": 1,
            "datetime": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": facts,
            "smoke": work.smoke,
            **measured,
            "exit_code": exit_code(verdicts),
            "verdicts": [one.to_json() for one in verdicts],
        }
        write_files(options.output.parent, {options.output.name: (json.dumps(record, indent=1) + "\n").encode()})
        text = markdown(record, verdicts, here, budgets)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            append_text(Path(summary), text + "\n")
    except (ReportError, RuntimeError, ValueError, OSError) as error:
        print(f"benchmarks.change: {error}", file=sys.stderr)
        return 2
    print(text)
    return exit_code(verdicts)


def work_of(budgets: Budgets, facts: Mapping[str, Any], *, rounds: int, smoke: bool) -> Work:
    """What the gated cases of a budget file come to on this machine."""
    cases = [gated_case(name) for name in budgets.cases]
    return Work(cases, CONTROL, rounds, facts["device"], facts["threads"], smoke)


def say_after(start: float) -> Say:
    """Prints lines of progress with the seconds since a start."""
    return lambda text: print(f"[{time.monotonic() - start:6.1f} s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """A checkout of a revision in a temporary folder.

    Raises:
        RuntimeError: If there is no such revision, or it is older than the package's names for what is measured.
    """
    try:
        commit = git(ROOT, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    except RuntimeError as error:
        raise RuntimeError(f"no revision {revision!r} here (a shallow clone, perhaps?): {error}") from error
    with tempfile.TemporaryDirectory(prefix="gptloop-base-") as folder:
        tree = Path(folder) / "base"
        git(ROOT, "worktree", "add", "--detach", str(tree), commit)
        try:
            if not (tree / "gptloop" / "__init__.py").exists():
                raise RuntimeError(f"the base {revision!r} has no package gptloop, so there is nothing to compare with")
            yield tree
        finally:
            git(ROOT, "worktree", "remove", "--force", str(tree))


def judge_pairs(
    pairs: Sequence[Mapping[str, Any]],
    lacking: Mapping[str, str],
    budgets: Budgets,
    calibration: Calibration | None,
) -> list[Verdict]:
    """Verdicts on every gated case.

    Args:
        pairs: As `benchmarks.gate.turns.measure_pair` records them.
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


def _measure(base: Path, work: Work, count: int, say: Say) -> dict[str, Any]:
    """The raw pairs, for JSON."""
    with tempfile.TemporaryDirectory(prefix="gptloop-change-") as folder:
        files = Files(Path(folder), {"base": base, "change": ROOT})
        lacking = prepare(files, work, say)
        work = Work(**{**vars(work), "cases": [case for case in work.cases if case.name not in lacking]})
        pairs = []
        for index in range(count if work.cases else 0):
            say(f"pair {index + 1} of {count}")
            pairs.append(measure_pair(files, work, TWO_SIDES))
    return {
        "base": commit_info(base),
        "change": commit_info(ROOT),
        "rounds": work.rounds,
        "missing": lacking,
        "pairs": pairs,
    }


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.change", description=__doc__.split("\n\n")[1])
    parser.add_argument("--base", required=True, metavar="REVISION", help="what to compare the working tree with")
    parser.add_argument(
        "--processes",
        type=at_least(FEWEST_PROCESSES),
        default=PROCESSES,
        help="pairs of fresh processes (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=at_least(2), default=ROUNDS, help="rounds in a pair (default: %(default)s)")
    parser.add_argument("--budgets", type=Path, default=ROOT / "benchmarks" / "gate" / "budgets.toml", metavar="FILE")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "reports" / "change.json",
        metavar="FILE",
        help="where the raw pairs and verdicts are saved (default: reports/change.json)",
    )
    parser.add_argument(
        "--calibrations",
        type=Path,
        default=ROOT / "reports",
        metavar="FOLDER",
        help="where `benchmarks.prove` saved what this machine's noise is (default: reports/)",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny models: try the command, the times mean nothing")
    return parser


def at_least(least: int) -> Callable[[str], int]:
    """An argument's type: a whole number with a bound."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return number
