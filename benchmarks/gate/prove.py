"""The proof of the gate, and the calibration of a machine: `python -m benchmarks.prove`.

Measures A/A pairs of fresh processes, the working tree on both sides. The first pairs calibrate the noise floors. In
the others, held apart, the same calls are also made slower by 5 % and 10 % with real work inside the timed call; they
are judged as `benchmarks.gate.change` judges a change, and the alarms are counted. Every pair is saved when it is
there, so that a run which was cut off goes on where it stopped. The result is written into docs/gate.md from the saved
file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.command.checkout import ROOT, commit_info
from benchmarks.command.ending import say_after, whole
from benchmarks.command.scratch import scratch
from benchmarks.gate.change import ROUNDS
from benchmarks.gate.comparison import REPORTS
from benchmarks.gate.memory import measure_peaks
from benchmarks.gate.pair import measure_pair
from benchmarks.gate.prepare import prepare
from benchmarks.gate.proof import ARMS
from benchmarks.gate.proof_page import BLOCK, rendered
from benchmarks.gate.work import CONTROL, TWO_SIDES, Files, work_of
from benchmarks.measuring.measurement import Say
from gptloop.ending import Parser, print_result
from gptloop.report import ReportError, write_files
from gptloop.report.budgets import Budgets, read_budgets
from gptloop.report.calibration import PROOF
from gptloop.report.machine import machine_of
from gptloop.report.pages import with_block, write_pages
from gptloop.report.records import read_record
from gptloop.report.statistics import process_effect
from gptloop.report.verdicts import FEWEST_PROCESSES, percent_text

SCHEMA = 1
CALIBRATION_PAIRS = TEST_PAIRS = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, judge, write the page, print the result.

    Returns:
        0.

    Raises:
        RuntimeError: If nothing can be measured or judged.
        ValueError: Likewise.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.processes and options.test_pairs < options.processes:
        parser.error(f"a suite run of {options.processes} pairs is drawn from the test pairs, got {options.test_pairs}")
    return _prove(options)


def _prove(options: argparse.Namespace) -> int:
    budgets = read_budgets(options.budgets)
    facts = machine.facts()
    path = options.output or ROOT / "reports" / f"proof-{machine_of(facts).slug}.json"
    if not options.render:
        _measure(path, budgets, facts, options)
    text = rendered(path, budgets, options.processes)
    if not options.smoke:
        write_pages({options.page: with_block(options.page, BLOCK, text)})
    print_result(text)
    return 0


def _measure(path: Path, budgets: Budgets, facts: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Measure the pairs that a file does not hold yet; it is whole after each."""
    work = work_of(budgets, facts, rounds=options.rounds, smoke=options.smoke)
    settings = {
        "calibration_pairs": options.calibration_pairs,
        "test_pairs": options.test_pairs,
        "rounds": options.rounds,
        "cases": [case.name for case in work.cases],
        "control": CONTROL.name,
        "smoke": options.smoke,
    }
    proof = {"gptloop_kind": PROOF, "schema": SCHEMA, "machine": facts, "commit": commit_info(ROOT, REPORTS)}
    proof["settings"] = settings
    pairs, peaks = _saved(path, proof)
    wanted = options.calibration_pairs + options.test_pairs
    wanted_peaks = options.calibration_pairs if budgets.memory else 0
    if len(pairs) >= wanted and len(peaks) >= wanted_peaks:
        return
    say = say_after(time.monotonic())
    with scratch("proof") as folder:
        files = Files(folder, {"base": ROOT, "change": ROOT})
        if lacking := prepare(files, work, say):
            raise RuntimeError("; ".join(f"{case}: {reason}" for case, reason in lacking.items()))
        while len(pairs) < wanted:
            say(f"pair {len(pairs) + 1} of {wanted}")
            start = time.monotonic()
            pair = measure_pair(files, work, TWO_SIDES if len(pairs) < options.calibration_pairs else ARMS)
            pairs.append(pair | {"wall_s": time.monotonic() - start})
            _save(path, {**proof, "pairs": pairs, "peaks": peaks})
            _say_pair(pair, say)
        while len(peaks) < wanted_peaks:
            say(f"peak memory, {len(peaks) + 1} of {wanted_peaks}")
            peaks.append(measure_peaks(files, work))
            _save(path, {**proof, "pairs": pairs, "peaks": peaks})


def _save(path: Path, content: Mapping[str, Any]) -> None:
    write_files(path.parent, {path.name: (json.dumps(content) + "\n").encode()})


def _saved(path: Path, now: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """The pairs and peaks that a file holds already, none where there is no file.

    Raises:
        ReportError: If they were measured otherwise: pairs of two kinds are no proof.
    """
    if not path.exists():
        return [], []
    saved = read_record(path).values
    for name, value in now.items():
        if saved.get(name) != value:
            raise ReportError(
                f"{path}: was measured with another {name} ({json.dumps(saved.get(name))}, now {json.dumps(value)}): "
                "finish it as it was begun, or remove it, or name another --output"
            )
    pairs, peaks = saved.get("pairs"), saved.get("peaks", [])
    if not isinstance(pairs, list) or not isinstance(peaks, list):
        raise ReportError(f"{path}: a damaged proof: no list of pairs")
    return pairs, peaks


def _say_pair(pair: Mapping[str, Any], say: Say) -> None:
    for case, arms in pair["cases"].items():
        effects = [f"{arm} {percent_text(process_effect(arms['base'], arms[arm]))}" for arm in arms if arm != "base"]
        say(f"  {case}: {', '.join(effects)}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.prove", description=__doc__.split("\n\n")[1])
    parser.add_argument("--calibration-pairs", type=whole(2), default=CALIBRATION_PAIRS, help="default: %(default)s")
    parser.add_argument("--test-pairs", type=whole(1), default=TEST_PAIRS, help="default: %(default)s")
    parser.add_argument(
        "--processes",
        type=whole(FEWEST_PROCESSES),
        help="of a suite run (default: what the calibration asks for)",
    )
    parser.add_argument("--rounds", type=whole(2), default=ROUNDS, help="rounds in a pair (default: %(default)s)")
    parser.add_argument("--budgets", type=Path, default=ROOT / "benchmarks" / "gate" / "budgets.toml", metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: reports/proof-MACHINE.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "gate.md", metavar="FILE", help="to write into")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the saved file")
    parser.add_argument("--smoke", action="store_true", help="tiny models: try the command, the times mean nothing")
    return parser
