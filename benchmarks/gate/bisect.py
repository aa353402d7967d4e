"""Which commit made a gated case slower: `python -m benchmarks.bisect --good REVISION --bad REVISION --case NAME`.

git bisect chooses commits and checks them out, in a worktree of its own; the gate judges each of them against the good
one, with the code of the working tree: a revision needs no gate of its own. What cannot be judged is skipped.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.command.checkout import ROOT, worktree
from benchmarks.command.ending import say_after, whole
from benchmarks.command.scratch import scratch
from benchmarks.gate.judge import judge_pairs
from benchmarks.gate.options import add_judging
from benchmarks.gate.pair import measure_pair
from benchmarks.gate.prepare import prepare
from benchmarks.gate.work import TWO_SIDES, Files, Work, work_of
from benchmarks.measuring.measurement import Say
from gptloop.ending import Parser, print_result
from gptloop.report.budgets import Budgets, read_budgets
from gptloop.report.calibration import Calibration, find_calibration
from gptloop.report.checkout import git
from gptloop.report.machine import machine_of
from gptloop.report.markdown import escape
from gptloop.report.records import named
from gptloop.report.verdicts import FEWEST_PROCESSES, Value, Verdict, missing

FOUND, NOT_FOUND = 0, 2
MEASURED = "gptloop"  # commits that leave it as it was cannot change a time, and are not asked about
PROCESSES, ROUNDS = 5, 6

Judge = Callable[[Path], Verdict]

# What git bisect is told of a verdict on a commit against the good one.
_TERMS: Mapping[Value, str] = {
    Value.REGRESSION: "bad",
    Value.UNCHANGED: "good",
    Value.IMPROVED: "good",
    Value.MISSING: "skip",
    Value.UNSTABLE: "skip",
}
# What git notes in its log of a search when it ends.
_FIRST_BAD = re.compile(r"^# first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Bisect and print.

    Returns:
        0 if the first bad commit was found, else 2; never 1, which says that there is a regression here.
    """
    return _bisect(_parser().parse_args(argv))


def bisect(good: str, bad: str, judge: Judge, say: Say) -> tuple[str | None, str]:
    """Find the first bad commit.

    Args:
        good: A revision from before the regression.
        bad: One from after it.
        judge: The verdict on the commit that a tree is at, against the good one.
        say: Takes one line of progress at a time.

    Returns:
        Its id, or None if it was not found; and what there is to say, in Markdown.

    Raises:
        RuntimeError: If git refuses the revisions.
    """
    with worktree(bad) as tree:
        last = judge(tree)
        if (term := _TERMS[last.value]) != "bad":
            why = "cannot be judged" if term == "skip" else "is not slower than the good one"
            return None, f"**Nothing to search: the bad revision {escape(bad)} {why}.** {escape(last.reason)}"
        try:
            git(tree, "bisect", "start", _commit(tree, bad), _commit(tree, good), "--", MEASURED)
            while not (commits := _ended(tree)):
                _step(tree, judge, say)
            return _found(tree, commits)
        finally:
            git(tree, "bisect", "reset", "HEAD")


def _step(tree: Path, judge: Judge, say: Say) -> None:
    """Judge the commit that git chose, and tell it."""
    commit = git(tree, "rev-parse", "HEAD")
    verdict = judge(tree)
    term = _TERMS[verdict.value]
    say(f"{commit[:10]} is {verdict.value}: {term}")
    try:
        git(tree, "bisect", term, commit)
    except RuntimeError:
        if not _ended(tree):  # git also fails where only skipped commits are left
            raise


def _ended(tree: Path) -> list[str]:
    """The commits that git ends with: the first bad one, or all that may be; none while it goes on."""
    log = git(tree, "bisect", "log")
    return _FIRST_BAD.findall(log) or _POSSIBLE.findall(log)


def _found(tree: Path, commits: Sequence[str]) -> tuple[str | None, str]:
    lines = [git(tree, "log", "-1", "--no-show-signature", "--format=%h %s (%as)", commit) for commit in commits]
    if len(commits) == 1:
        return commits[0], f"**The first bad commit is {escape(lines[0])}.**"
    listed = "\n".join(f"- {escape(line)}" for line in lines)
    return None, f"**The first bad commit is one of these, of which all but one cannot be judged:**\n\n{listed}"


def _bisect(options: argparse.Namespace) -> int:
    budgets = read_budgets(options.budgets)
    if options.case not in budgets.cases:
        known = ", ".join(budgets.cases)
        raise ValueError(f"--case {named(options.case)} is not gated: expected one of {known}")
    budgets = dataclasses.replace(budgets, cases={options.case: budgets.cases[options.case]})
    facts = machine.facts()
    calibration = find_calibration(options.calibrations, machine_of(facts))
    work = work_of(budgets, facts, rounds=options.rounds, smoke=options.smoke)
    say = say_after(time.monotonic())
    with worktree(options.good) as good:

        def judge(tree: Path) -> Verdict:
            return judge_trees(good, tree, work, budgets, calibration, options.processes, say)

        first, words = bisect(options.good, options.bad, judge, say)
    print_result(f"# Which commit made {escape(options.case)} slower\n\n{words}")
    return FOUND if first else NOT_FOUND


def judge_trees(
    base: Path, change: Path, work: Work, budgets: Budgets, calibration: Calibration | None, count: int, say: Say
) -> Verdict:
    """The gate's verdict on the only case of the work; `missing` where a tree cannot do it.

    Args:
        base: A tree.
        change: Another one.
        work: Of one case.
        budgets: Of this case.
        calibration: This machine's, if it has one.
        count: How many pairs of processes.
        say: Takes one line of progress at a time.
    """
    (case,) = work.cases
    with scratch("bisect") as folder:
        files = Files(folder, {"base": base, "change": change})
        try:
            lacking = prepare(files, work, say)
            pairs = [measure_pair(files, work, TWO_SIDES) for _ in range(0 if lacking else count)]
        except RuntimeError as error:  # a process that ended without an answer, of a commit that cannot even start
            return missing(case.name, budgets.cases[case.name], f"it cannot be measured: {error}")
        (verdict,) = judge_pairs(pairs, lacking, budgets, calibration)
    return verdict


def _commit(tree: Path, revision: str) -> str:
    return git(tree, "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmarks.bisect", description=__doc__.split("\n\n")[1])
    parser.add_argument("--good", required=True, metavar="REVISION", help="one from before the regression")
    parser.add_argument("--bad", required=True, metavar="REVISION", help="one from after it")
    parser.add_argument("--case", required=True, metavar="NAME", help='a gated case, such as "gpt2 8x1 onnx_int8"')
    parser.add_argument(
        "--processes",
        type=whole(FEWEST_PROCESSES),
        default=PROCESSES,
        help="pairs of fresh processes for each commit (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=whole(2), default=ROUNDS, help="rounds in a pair (default: %(default)s)")
    parser.add_argument("--budgets", type=Path, default=ROOT / "benchmarks" / "gate" / "budgets.toml", metavar="FILE")
    add_judging(parser)
    return parser
