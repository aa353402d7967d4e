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
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.gate.change import PROCESSES, ROUNDS, at_least, say_after, work_of
from benchmarks.gate.turns import CONTROL, ROOT, TWO_SIDES, Arms, Files, Say, commit_info, measure_pair, prepare
from gptloop.report import ReportError, write_files
from gptloop.report.budgets import Budgets, read_budgets
from gptloop.report.calibration import PROOF, Calibration, check_pair
from gptloop.report.machine import machine_of
from gptloop.report.markdown import escape, table
from gptloop.report.records import read_record
from gptloop.report.statistics import Estimate, paired_estimate, process_effect
from gptloop.report.text import hardware_text, versions_text
from gptloop.report.verdicts import FEWEST_PROCESSES, Value, judge, percent_text

SCHEMA = 1
CALIBRATION_PAIRS = TEST_PAIRS = 20
DRAWS = 1000  # suite runs drawn from the test pairs
SLOWER = {"slower by 5 %": 0.05, "slower by 10 %": 0.10}
ARMS: Arms = {**TWO_SIDES, **{arm: ("change", slower) for arm, slower in SLOWER.items()}}
# What issue and design ask for.
MOST_FALSE_ALARMS = 0.02
FEWEST_CAUGHT = {"slower by 5 %": 15 / 20, "slower by 10 %": 19 / 20}

_BLOCK = re.compile(r"(?<=<!-- proof -->\n).*?(?=<!-- end of proof -->)", re.DOTALL)


@dataclass(frozen=True)
class CaseProof:
    """What the test pairs say of a case; shares of the drawn suite runs by arm.

    Attributes:
        floor: As a log-ratio.
        spread: Standard deviation of the test pairs' A/A effects.
        regressions: How often the verdict was `regression`.
        unstable: How often it was `unstable`.
        effects: The mean effect of all test pairs.
    """

    floor: float
    spread: float
    regressions: Mapping[str, float]
    unstable: Mapping[str, float]
    effects: Mapping[str, float]


@dataclass(frozen=True)
class Proof:
    """The result: by case, and false alarms (and other verdicts without a change) by suite run."""

    cases: Mapping[str, CaseProof]
    false_alarms: float
    falsely_improved: float
    unstable: float

    @property
    def holds(self) -> bool:
        """Whether every target is met, in the worst case."""
        return self.false_alarms <= MOST_FALSE_ALARMS and all(
            case.regressions[arm] >= least for case in self.cases.values() for arm, least in FEWEST_CAUGHT.items()
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, judge, write the page, print the result.

    Returns:
        0, or 2 where nothing could be measured or judged.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.test_pairs < options.processes or options.calibration_pairs < 2:
        parser.error("a suite run is drawn from the test pairs, and 2 pairs or more calibrate: too few were asked for")
    try:
        budgets = read_budgets(options.budgets)
        facts = machine.facts()
        path = options.output or ROOT / "reports" / f"proof-{machine_of(facts).slug}.json"
        if not options.render:
            _measure(path, budgets, facts, options)
        text = rendered(path, budgets)
        print(text)
        if not options.smoke:
            write_page(options.page, text)
    except (ReportError, RuntimeError, ValueError, OSError) as error:
        print(f"benchmarks.prove: {error}", file=sys.stderr)
        return 2
    return 0


def prove(pairs: Sequence[Mapping[str, Any]], calibration: Calibration, budgets: Budgets, processes: int) -> Proof:
    """Judge suite runs drawn from the test pairs.

    A suite run is `processes` different pairs, drawn at random from the test pairs; all its cases come from the same
    pairs, as in a real run. Drawn runs share pairs, so their number sharpens the count, not the evidence: that is
    what the test pairs hold.

    Args:
        pairs: The test pairs.
        calibration: Of the others.
        budgets: The gated cases.
        processes: Pairs in a suite run.
    """
    rng = np.random.default_rng(0)
    runs = np.array([rng.permutation(len(pairs))[:processes] for _ in range(DRAWS)])
    cases, unchanged = {}, []
    for case, budget in budgets.cases.items():
        floor = calibration.paired_floor(case, processes=processes, cases=len(budgets.cases), assumed=0.0).effect
        limits = {"budget": budget, "floor": floor, "resolution": budgets.resolution}
        values, effects = {}, {}
        for arm in [arm for arm in ARMS if arm != "base"]:
            effects[arm] = np.array([process_effect(p["cases"][case]["base"], p["cases"][case][arm]) for p in pairs])
            estimates = zip(*paired_estimate(effects[arm][runs]), strict=True)
            values[arm] = np.array([judge(Estimate(*one), **limits) for one in estimates])
        unchanged.append(values["change"])
        cases[case] = CaseProof(
            floor=floor,
            spread=float(effects["change"].std(ddof=1)),
            regressions={arm: float(np.mean(of_arm == Value.REGRESSION)) for arm, of_arm in values.items()},
            unstable={arm: float(np.mean(of_arm == Value.UNSTABLE)) for arm, of_arm in values.items()},
            effects={arm: float(of_arm.mean()) for arm, of_arm in effects.items()},
        )
    suites = np.array(unchanged)  # [cases, DRAWS]
    shares = [float((suites == value).any(0).mean()) for value in (Value.REGRESSION, Value.IMPROVED, Value.UNSTABLE)]
    return Proof(cases, *shares)


def rendered(path: Path, budgets: Budgets) -> str:
    """The result of a saved proof, in Markdown.

    Raises:
        ReportError: If the file is no finished proof of the gated cases.
    """
    saved = read_record(path).values
    if saved.get("gptloop_kind") != PROOF:
        raise ReportError(f"{path}: not a proof")
    try:
        settings, pairs, here = saved["settings"], saved["pairs"], machine_of(saved["machine"])
        calibrating, testing = settings["calibration_pairs"], settings["test_pairs"]
        if len(pairs) < calibrating + testing:
            raise ReportError(f"{path}: {len(pairs)} of {calibrating + testing} pairs are there; run the command again")
        if settings["cases"] != list(budgets.cases):
            raise ReportError(f"{path}: proves {', '.join(settings['cases'])}, but other cases are gated now")
        for index, pair in enumerate(pairs, 1):
            check_pair(f"{path}: pair {index}", pair)
        calibration = Calibration(path.name, here, pairs[:calibrating])
        proof = prove(pairs[calibrating:], calibration, budgets, settings["processes"])
        minutes = sum(pair["wall_s"] for pair in pairs) / 60
        rest_s = max(pair["rest_s"] for pair in pairs)
        shares = _added_shares(pairs[calibrating:])
        where = f"commit {saved['commit']['id'][:10]}{' (dirty)' if saved['commit']['dirty'] else ''}"
        smoke, rounds = settings["smoke"], settings["rounds"]
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ReportError(f"{path}: a damaged proof: {type(error).__name__}: {error}") from error
    return "\n\n".join(
        [
            *(["**Tiny models (--smoke): the times mean nothing.**"] if smoke else []),
            f"Measured on {escape(hardware_text(here))} ({escape(versions_text(here))}), {where}: {calibrating} pairs "
            f"of fresh processes to calibrate, then {testing} to test, {rounds} rounds each, in "
            f"{minutes:.0f} minutes. The raw pairs are in [{path.name}](../reports/{path.name}); this text was made of "
            "them by `python -m benchmarks.prove --render`.",
            f"Of {DRAWS} suite runs of {settings['processes']} pairs each, drawn from the {testing} test pairs:",
            _suite_table(proof),
            _cases_table(proof, testing),
            f"{_conclusion(proof)} The work added took {shares} of a call. After a call, threads spun for up to "
            f"{rest_s * 1e3:.0f} ms before the other side had its turn.",
        ]
    )


def write_page(page: Path, text: str) -> None:
    """Put the result between the page's marks.

    Raises:
        ReportError: If the page lacks them, or cannot be read or written.
    """
    try:
        before = page.read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{page}: cannot be read: {error.strerror}") from error
    after, count = _BLOCK.subn(lambda _: f"\n{text}\n\n", before)
    if count != 1:
        raise ReportError(f"{page}: has no place for the proof (<!-- proof -->, a line of its own, and its end)")
    write_files(page.parent, {page.name: after.encode()})


def _measure(path: Path, budgets: Budgets, facts: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Measure the pairs that a file does not hold yet; it is whole after each."""
    work = work_of(budgets, facts, rounds=options.rounds, smoke=options.smoke)
    settings = {
        "calibration_pairs": options.calibration_pairs,
        "test_pairs": options.test_pairs,
        "processes": options.processes,
        "rounds": options.rounds,
        "cases": [case.name for case in work.cases],
        "control": CONTROL.name,
        "smoke": options.smoke,
    }
    proof = {"gptloop_kind": PROOF, "schema": SCHEMA, "machine": facts, "commit": commit_info(ROOT)}
    proof["settings"] = settings
    pairs = _saved_pairs(path, proof)
    wanted = options.calibration_pairs + options.test_pairs
    if len(pairs) >= wanted:
        return
    say = say_after(time.monotonic())
    with tempfile.TemporaryDirectory(prefix="gptloop-proof-") as folder:
        files = Files(Path(folder), {"base": ROOT, "change": ROOT})
        if lacking := prepare(files, work, say):
            raise RuntimeError("; ".join(f"{case}: {reason}" for case, reason in lacking.items()))
        while len(pairs) < wanted:
            say(f"pair {len(pairs) + 1} of {wanted}")
            start = time.monotonic()
            pair = measure_pair(files, work, TWO_SIDES if len(pairs) < options.calibration_pairs else ARMS)
            pairs.append(pair | {"wall_s": time.monotonic() - start})
            write_files(path.parent, {path.name: (json.dumps({**proof, "pairs": pairs}) + "\n").encode()})
            _say_pair(pair, say)


def _saved_pairs(path: Path, now: Mapping[str, Any]) -> list[Any]:
    """The pairs that a file holds already, none where there is no file.

    Raises:
        ReportError: If they were measured otherwise: pairs of two kinds are no proof.
    """
    if not path.exists():
        return []
    saved = read_record(path).values
    for name, value in now.items():
        if saved.get(name) != value:
            raise ReportError(
                f"{path}: was measured with another {name} ({json.dumps(saved.get(name))}, now {json.dumps(value)}): "
                "finish it as it was begun, or remove it, or name another --output"
            )
    pairs = saved.get("pairs")
    if not isinstance(pairs, list):
        raise ReportError(f"{path}: a damaged proof: no list of pairs")
    return pairs


def _say_pair(pair: Mapping[str, Any], say: Say) -> None:
    for case, arms in pair["cases"].items():
        effects = [f"{arm} {percent_text(process_effect(arms['base'], arms[arm]))}" for arm in arms if arm != "base"]
        say(f"  {case}: {', '.join(effects)}")


def _added_shares(pairs: Sequence[Mapping[str, Any]]) -> str:
    """What the added work took of the call that it was added to: medians, in words."""
    words = []
    for arm in SLOWER:
        shares = [
            np.array(added[arm]) / (np.array(pair["cases"][case][arm]) - np.array(added[arm]))
            for pair in pairs
            for case, added in pair["added_s"].items()
        ]
        low, middle, high = np.quantile(np.concatenate(shares), [0.05, 0.5, 0.95])
        words.append(f"{middle:.1%} [{low:.1%} to {high:.1%} for nine in ten]".replace("%", " %"))
    return " and ".join(words)


def _suite_table(proof: Proof) -> str:
    rows = [
        ["false alarm: regression in any case", _share(proof.false_alarms), f"at most {_share(MOST_FALSE_ALARMS)}"],
        ["improved in any case", _share(proof.falsely_improved), "-"],
        ["unstable in any case", _share(proof.unstable), "-"],
    ]
    return table(["suite run without a change", "share", "target"], rows, "lrr")


def _cases_table(proof: Proof, testing: int) -> str:
    headers = ["case", f"spread of {testing} A/A effects", "noise floor", "A/A alarms", "5 % caught", "10 % caught"]
    rows = [
        [
            name,
            percent_text(case.spread)[1:],
            percent_text(case.floor)[1:],
            *(_share(case.regressions[arm]) for arm in ("change", *SLOWER)),
        ]
        for name, case in proof.cases.items()
    ]
    targets = [f"at least {_share(FEWEST_CAUGHT[arm])}" for arm in SLOWER]
    return table(headers, [*rows, ["target", "", "", "", *targets]], "lrrrrr")


def _conclusion(proof: Proof) -> str:
    if proof.holds:
        return "**Every target is met on this machine.**"
    short = [f"{_share(proof.false_alarms)} false alarms"] * (proof.false_alarms > MOST_FALSE_ALARMS)
    for name, case in proof.cases.items():
        for arm, least in FEWEST_CAUGHT.items():
            if case.regressions[arm] < least:
                short.append(f"{escape(name)} {arm} is caught in {_share(case.regressions[arm])}")
    return f"**This machine does not allow every target: {'; '.join(short)}.**"


def _share(fraction: float) -> str:
    return f"{fraction:.1%}".replace("%", " %")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove", description=__doc__.split("\n\n")[1])
    parser.add_argument("--calibration-pairs", type=int, default=CALIBRATION_PAIRS, help="default: %(default)s")
    parser.add_argument("--test-pairs", type=int, default=TEST_PAIRS, help="default: %(default)s")
    parser.add_argument(
        "--processes", type=at_least(FEWEST_PROCESSES), default=PROCESSES, help="of a suite run (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=at_least(2), default=ROUNDS, help="rounds in a pair (default: %(default)s)")
    parser.add_argument("--budgets", type=Path, default=ROOT / "benchmarks" / "gate" / "budgets.toml", metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: reports/proof-MACHINE.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "gate.md", metavar="FILE", help="to write into")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from the saved file")
    parser.add_argument("--smoke", action="store_true", help="tiny models: try the command, the times mean nothing")
    return parser
