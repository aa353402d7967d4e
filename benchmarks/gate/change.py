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

from benchmarks import machine
from benchmarks.command.checkout import ROOT, worktree
from benchmarks.command.ending import say_after, whole
from benchmarks.gate.comparison import compare
from benchmarks.gate.options import add_judging
from benchmarks.gate.outputs import Outputs
from benchmarks.gate.work import PROCESSES, work_of
from gptloop.ending import Parser, print_result
from gptloop.report import append_text, write_files
from gptloop.report.budgets import read_budgets
from gptloop.report.calibration import find_calibration
from gptloop.report.machine import machine_of
from gptloop.report.verdicts import FEWEST_PROCESSES, exit_code

ROUNDS = 6
EXPLAIN = ("slower", "all", "none")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, judge, explain, save, print.

    Returns:
        The exit status.
    """
    return _change(_parser().parse_args(argv))


def _change(options: argparse.Namespace) -> int:
    outputs = Outputs(options.output, markdown=options.markdown, html=options.html, junit=options.junit)
    outputs.check()
    try:
        return _judged(options, outputs)
    except BaseException as error:
        outputs.write_failure(error)  # or what an earlier comparison left there would pass for this one's
        raise


def _judged(options: argparse.Namespace, outputs: Outputs) -> int:
    budgets = read_budgets(options.budgets)
    facts = machine.facts()
    here = machine_of(facts)
    calibration = find_calibration(options.calibrations, here)  # what cannot be read is found before measuring
    processes = options.processes or (calibration.processes_needed(budgets) if calibration else PROCESSES)
    work = work_of(budgets, facts, rounds=options.rounds, smoke=options.smoke)
    with worktree(options.base) as base:
        found = compare(
            base, work, budgets, calibration, wanted=processes, explain=options.explain, say=say_after(time.monotonic())
        )
    code = exit_code(found.verdicts)
    record = {
        "gptloop_kind": "change",
        "schema": 2,
        "datetime": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": facts,
        "smoke": work.smoke,
        **found.measured,
        "exit_code": code,
        "verdicts": [one.to_json() for one in found.verdicts],
        "explanations": found.explanations,
    }
    write_files(options.output.parent, {options.output.name: (json.dumps(record, indent=1) + "\n").encode()})
    text = outputs.write(record, found, here, budgets)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        append_text(Path(summary), text + "\n")
    print_result(text)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.change", description=__doc__.split("\n\n")[1])
    parser.add_argument("--base", required=True, metavar="REVISION", help="what to compare the working tree with")
    parser.add_argument(
        "--processes",
        type=whole(FEWEST_PROCESSES),
        help=f"pairs of fresh processes (default: what the machine's calibration asks for, else {PROCESSES}); as many "
        "more where nothing can be judged",
    )
    parser.add_argument("--rounds", type=whole(2), default=ROUNDS, help="rounds in a pair (default: %(default)s)")
    parser.add_argument("--budgets", type=Path, default=ROOT / "benchmarks" / "gate" / "budgets.toml", metavar="FILE")
    parser.add_argument(
        "--explain",
        choices=EXPLAIN,
        default=EXPLAIN[0],
        help="which cases are called once more under ONNX Runtime's profiler (default: those that became slower)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "reports" / "change.json",
        metavar="FILE",
        help="where the raw pairs and verdicts are saved (default: reports/change.json)",
    )
    for name, what in (("markdown", "what is printed"), ("html", "the same as a page"), ("junit", "JUnit XML")):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"also save {what}")
    add_judging(parser)
    return parser
