"""What a person reads of a saved proof, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate.proof import (
    DRAWS,
    FEWEST_CAUGHT,
    MOST_FALSE_ALARMS,
    MOST_UNSTABLE,
    SLOWER,
    Proof,
    prove,
    unstable_shares,
)
from benchmarks.gate.work import PROCESSES
from gptloop.report import ReportError
from gptloop.report.budgets import Budgets
from gptloop.report.calibration import PROOF, Calibration, check_pair
from gptloop.report.machine import machine_of
from gptloop.report.markdown import escape, table
from gptloop.report.records import read_record
from gptloop.report.text import hardware_text, versions_text
from gptloop.report.verdicts import percent_text

BLOCK = "proof"  # the name of its marks in a page


def rendered(path: Path, budgets: Budgets, processes: int | None = None) -> str:
    """The result of a saved proof, in Markdown.

    Args:
        path: The proof.
        budgets: The gated cases.
        processes: Pairs of a suite run; what the calibration asks for unless given.

    Raises:
        ReportError: If the file is no finished proof of the gated cases.
    """
    saved = read_record(path).values
    if saved.get("gptloop_kind") != PROOF:
        raise ReportError(f"{path}: not a proof")
    try:
        return _text(path, saved, budgets, processes)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ReportError(f"{path}: a damaged proof: {type(error).__name__}: {error}") from error


def _text(path: Path, saved: Mapping[str, Any], budgets: Budgets, processes: int | None) -> str:
    settings, here = saved["settings"], machine_of(saved["machine"])
    calibrating, testing = _pairs(path, saved, budgets)
    calibration = Calibration(path.name, here, calibrating)
    wanted = min(processes or calibration.processes_needed(budgets), len(testing))
    proof = prove(testing, calibration, budgets, wanted)
    again, unstable = unstable_shares(testing, calibration, budgets, PROCESSES)
    minutes = sum(pair["wall_s"] for pair in (*calibrating, *testing)) / 60
    rest_s = max(pair["rest_s"] for pair in (*calibrating, *testing))
    where = f"commit {saved['commit']['id'][:10]}{' (dirty)' if saved['commit']['dirty'] else ''}"
    return "\n\n".join(
        [
            *(["**Tiny models (--smoke): the times mean nothing.**"] if settings["smoke"] else []),
            f"Measured on {escape(hardware_text(here))} ({escape(versions_text(here))}), {where}: {len(calibrating)} "
            f"pairs of fresh processes to calibrate, then {len(testing)} to test, {settings['rounds']} rounds each, in "
            f"{minutes:.0f} minutes. The raw pairs are in [{path.name}](../reports/{path.name}); this text was made of "
            "them by `python -m benchmarks.prove --render`.",
            f"Of {DRAWS} suite runs of {wanted} pairs each ({_why(processes)}), drawn from the {len(testing)} test "
            f"pairs; one that cannot be judged goes on to {min(2 * wanted, len(testing))}:",
            _suite_table(proof),
            f"Of {PROCESSES} pairs, with which a machine without a calibration begins, {_share(again)} of suite runs "
            f"cannot be judged, and of {2 * PROCESSES} pairs {_share(unstable)}.",
            _cases_table(proof, len(testing)),
            f"{conclusion(proof)} The work added took {_added_shares(testing)} of a call. After a call, threads spun "
            f"for up to {rest_s * 1e3:.0f} ms before the other side had its turn.",
        ]
    )


def _pairs(path: Path, saved: Mapping[str, Any], budgets: Budgets) -> tuple[Sequence[Any], Sequence[Any]]:
    """The pairs that calibrate and those that test, all there and whole."""
    settings, pairs = saved["settings"], saved["pairs"]
    calibrating = settings["calibration_pairs"]
    wanted = calibrating + settings["test_pairs"]
    if len(pairs) < wanted:
        raise ReportError(f"{path}: {len(pairs)} of {wanted} pairs are there; run the command again")
    if settings["cases"] != list(budgets.cases):
        raise ReportError(f"{path}: proves {', '.join(settings['cases'])}, but other cases are gated now")
    for index, pair in enumerate(pairs, 1):
        check_pair(f"{path}: pair {index}", pair)
    return pairs[:calibrating], pairs[calibrating:]


def _why(processes: int | None) -> str:
    return "as asked for" if processes else "what the calibration asks for"


def conclusion(proof: Proof) -> str:
    """Whether the targets are met, and if not, which are not."""
    if proof.holds:
        return "**Every target is met on this machine.**"
    short = [f"{_share(proof.false_alarms)} false alarms"] * (proof.false_alarms > MOST_FALSE_ALARMS)
    short += [f"{_share(proof.unstable)} unstable"] * (proof.unstable > MOST_UNSTABLE)
    for name, case in proof.cases.items():
        for arm, least in FEWEST_CAUGHT.items():
            if case.regressions[arm] < least:
                short.append(f"{escape(name)} {arm} is caught in {_share(case.regressions[arm])}")
    return f"**This machine does not allow every target: {'; '.join(short)}.**"


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
        ["measured again, as nothing could be judged", _share(proof.measured_again), "-"],
        ["unstable in any case, in the end", _share(proof.unstable), f"at most {_share(MOST_UNSTABLE)}"],
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


def _share(fraction: float) -> str:
    return f"{fraction:.1%}".replace("%", " %")
