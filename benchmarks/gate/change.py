"""The gate of a change: `python -m benchmarks.change --base REVISION`.

Measures the ONNX loop of the working tree against that of a base revision, in pairs of fresh processes on this machine,
saves the raw pairs and the verdicts, prints them as Markdown, and exits with 0 (fine), 1 (a regression) or 2 (something
could not be judged, or measured).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.command.checkout import ROOT, commit_info, worktree
from benchmarks.command.ending import Parser, print_result, run, say_after, whole
from benchmarks.command.scratch import scratch
from benchmarks.gate.judge import judge_pairs, markdown
from benchmarks.gate.pair import measure_pair
from benchmarks.gate.prepare import prepare
from benchmarks.gate.work import TWO_SIDES, Files, Work, work_of
from benchmarks.measuring.measurement import Say
from gptloop.report import ReportError, append_text, write_files
from gptloop.report.budgets import read_budgets
from gptloop.report.calibration import find_calibration
from gptloop.report.machine import machine_of
from gptloop.report.records import read_record
from gptloop.report.verdicts import FEWEST_PROCESSES, exit_code

KIND = "change"
REPORTS = "reports"  # what they hold is no part of what is measured
PROCESSES, ROUNDS = 5, 6


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, judge, save, print.

    Returns:
        The exit status.
    """
    return run("benchmarks.change", lambda: _change(_parser().parse_args(argv)))


def _change(options: argparse.Namespace) -> int:
    budgets = read_budgets(options.budgets)
    facts = machine.facts()
    here = machine_of(facts)
    calibration = find_calibration(options.calibrations, here)  # what cannot be read is found before measuring
    _check_output(options.output)
    work = work_of(budgets, facts, rounds=options.rounds, smoke=options.smoke)
    with worktree(options.base) as base:
        measured = measure_pairs(base, work, options.processes, say_after(time.monotonic()))
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
    print_result(text)
    return exit_code(verdicts)


def measure_pairs(base: Path, work: Work, count: int, say: Say) -> dict[str, Any]:
    """Pairs of the working tree and a base.

    Args:
        base: The base's tree.
        work: What is measured.
        count: How many pairs.
        say: Takes one line of progress at a time.

    Returns:
        For JSON: both commits, the cases that could not be measured and why, and the raw pairs.
    """
    commits = {"base": commit_info(base, REPORTS), "change": commit_info(ROOT, REPORTS)}  # what fails, fails first
    with scratch("change") as folder:
        files = Files(folder, {"base": base, "change": ROOT})
        lacking = prepare(files, work, say)
        work = Work(**{**vars(work), "cases": [case for case in work.cases if case.name not in lacking]})
        pairs = []
        for index in range(count if work.cases else 0):
            say(f"pair {index + 1} of {count}")
            pairs.append(measure_pair(files, work, TWO_SIDES))
    return {**commits, "rounds": work.rounds, "missing": lacking, "pairs": pairs}


def _check_output(path: Path) -> None:
    """Only what an earlier comparison saved is replaced: no saved run, and no baseline."""
    if not path.parent.is_dir():
        raise ReportError(f"{path.parent}: no such folder")
    if os.path.lexists(path) and not (path.is_file() and read_record(path).values.get("gptloop_kind") == KIND):
        raise ReportError(f"{path}: stands there already, and is no saved comparison: name another --output")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.change", description=__doc__.split("\n\n")[1])
    parser.add_argument("--base", required=True, metavar="REVISION", help="what to compare the working tree with")
    parser.add_argument(
        "--processes",
        type=whole(FEWEST_PROCESSES),
        default=PROCESSES,
        help="pairs of fresh processes (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=whole(2), default=ROUNDS, help="rounds in a pair (default: %(default)s)")
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
