"""The proof of the gate: what it counts, that it goes on where it stopped, and the page made of it."""

import json
import re

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.command.checkout import ROOT
from benchmarks.command.ending import run
from benchmarks.gate import proof as counted
from benchmarks.gate import proof_page, prove
from gptloop.report.budgets import read_budgets
from gptloop.report.calibration import Calibration
from gptloop.report.machine import machine_of
from gptloop.report.pages import with_block

CASES = ("distilgpt2 1x8 onnx", "gpt2 1x1 onnx_int8")
BUDGETS = """
budget = 0.02
memory_budget = 0.02
memory_floor = 0.02
resolution = 0.10
drift = 0.15
paired_floor = 0.04
stored_floor = 0.1
""" + "".join(f'[cases."{case}"]\n' for case in CASES)


def pair(rng: np.random.Generator, sd: float = 0.005, effects=(0.0, 0.05, 0.10)):
    """A pair as it is measured, each case's processes with a shift of their own."""
    cases, added = {}, {}
    for case in CASES:
        times = {"base": [1.0] * 2}
        shift = np.exp(rng.normal(0, sd))
        for arm, effect in zip(("change", *counted.SLOWER), effects, strict=True):
            times[arm] = [float(shift * (1 + effect))] * 2
        cases[case] = times
        added[case] = {arm: [float(shift * effect)] * 2 for arm, effect in counted.SLOWER.items()}
    return {"started": "", "cases": cases, "added_s": added, "control_s": [2.0] * 2, "rest_s": 0.004}


def peaks(*_):
    return {case: {"base": 1_000_000, "change": 1_001_000} for case in CASES}


@pytest.fixture
def budgets(tmp_path, monkeypatch):
    """Of two cases; and few draws: the shares that are tested are all or nothing."""
    monkeypatch.setattr(counted, "DRAWS", 50)
    (tmp_path / "b.toml").write_text(BUDGETS)
    return read_budgets(tmp_path / "b.toml")


def proof_of(budgets, calibration, test):
    known = Calibration("proof.json", machine_of(machine.facts()), calibration)
    return counted.prove(test, known, budgets, processes=5)


def many(count: int, seed: int, **changes):
    rng = np.random.default_rng(seed)
    return [pair(rng, **changes) for _ in range(count)]


def test_a_quiet_machine_is_silent_without_a_change_and_catches_both_slowdowns(budgets):
    proof = proof_of(budgets, many(20, 0), many(20, 1))
    assert proof.holds
    assert proof.false_alarms == 0
    for case in proof.cases.values():
        assert min(case.regressions[arm] for arm in counted.SLOWER) == 1.0
        assert case.effects["slower by 5 %"] == pytest.approx(np.log(1.05), abs=0.005)  # 4 errors of 20 shifts


def test_a_suite_run_that_cannot_be_judged_goes_on_to_twice_the_pairs(budgets):
    """Of test pairs that are noisier than the calibration said, by so much that 5 are too few and 10 are enough."""
    calibration, test = many(20, 0, sd=0.010), many(20, 1, sd=0.018)
    proof = proof_of(budgets, calibration, test)
    assert proof.measured_again > 0.1
    assert proof.unstable < proof.measured_again / 4
    known = Calibration("proof.json", machine_of(machine.facts()), calibration)
    assert counted.unstable_shares(test, known, budgets, 5) == (proof.measured_again, proof.unstable)


def test_a_pair_beside_which_the_control_moved_is_set_aside_or_the_run_measured_again(budgets):
    test = many(20, 1)
    test[0] |= {"control_s": [3.0] * 2}
    for case in test[0]["cases"].values():
        case["change"] = [9.0] * 2
    proof = proof_of(budgets, many(20, 0), test)
    assert proof.measured_again == pytest.approx(5 / 20, abs=0.2)  # as often as the pair is drawn
    assert (proof.false_alarms, proof.unstable) == (0.0, 0.0)


def test_a_false_alarm_in_any_case_counts_and_breaks_the_proof(budgets):
    test = many(20, 1)
    for one in test:
        one["cases"][CASES[1]]["change"] = [1.05, 1.05]
    proof = proof_of(budgets, many(20, 0), test)
    assert proof.false_alarms == 1.0
    assert proof.cases[CASES[0]].regressions["change"] == 0.0
    assert not proof.holds


def test_what_a_noisy_machine_does_not_catch_is_said(budgets):
    proof = proof_of(budgets, many(20, 0, sd=0.05), many(20, 1, sd=0.05))
    assert not proof.holds
    assert "does not allow every target" in proof_page.conclusion(proof)
    assert re.search(r"slower by 5 % is caught in \d", proof_page.conclusion(proof))


@pytest.fixture
def command(tmp_path, monkeypatch, budgets):
    """Runs the command; its pairs are simulated, and may be cut off after some."""
    rng = np.random.default_rng(0)
    measured = []

    def measure(files, work, arms):
        if len(measured) == command.cut_after:
            raise KeyboardInterrupt
        calibrates = len(measured) < 6
        assert ("slower by 5 %" in arms) is not calibrates
        measured.append(pair(rng))
        if calibrates:
            measured[-1]["added_s"] = {case: {} for case in CASES}
        return measured[-1]

    monkeypatch.setattr(prove, "measure_pair", measure)
    monkeypatch.setattr(prove, "measure_peaks", peaks)
    monkeypatch.setattr(prove, "prepare", lambda *_: {})
    monkeypatch.setattr(prove, "commit_info", lambda *_: {"id": "0123456789abcdef", "dirty": False})
    page = tmp_path / "page.md"
    page.write_text("# Gate\n\n<!-- proof -->\n\nNot measured yet.\n\n<!-- end of proof -->\n\nEnd.\n")

    def command(*options: str) -> int:
        fixed = {"--budgets": budgets.path, "--output": tmp_path / "proof-x.json", "--page": page}
        few = ["--calibration-pairs", "6", "--test-pairs", "6", *options]
        arguments = [*(str(x) for item in fixed.items() for x in item), *few]
        return run("benchmarks.prove", lambda: prove.main(arguments))

    command.cut_after, command.measured, command.page, command.saved = -1, measured, page, tmp_path / "proof-x.json"
    return command


def test_a_proof_that_was_cut_off_goes_on_where_it_stopped(command):
    command.cut_after = 5
    assert command() == 130
    assert len(json.loads(command.saved.read_text())["pairs"]) == 5
    command.cut_after = -1
    assert command() == 0
    saved = json.loads(command.saved.read_text())["pairs"]
    assert [one["cases"] for one in saved] == [one["cases"] for one in command.measured]
    assert len(saved) == 12
    assert json.loads(command.saved.read_text())["peaks"] == [peaks()] * 6


def test_the_page_is_made_of_the_saved_file_and_made_again_the_same(command, capsys):
    assert command() == 0
    page = command.page.read_text()
    assert "6 pairs of fresh processes to calibrate, then 6 to test" in page
    assert "what the calibration asks for" in page
    assert "Every target is met on this machine" in page
    assert page.startswith("# Gate\n")
    assert page.endswith("<!-- end of proof -->\n\nEnd.\n")
    command.page.write_text(page.replace("Every target", "No target"))
    count = len(command.measured)
    assert command("--render") == 0
    assert command.page.read_text() == page
    assert len(command.measured) == count
    assert "Every target is met" in capsys.readouterr().out


def test_pairs_measured_otherwise_are_not_mixed(command, capsys):
    assert command() == 0
    assert command("--rounds", "9") == 2
    assert "was measured with another settings" in capsys.readouterr().err


def test_a_tree_of_which_git_does_not_tell_proves_nothing(command, monkeypatch, capsys):
    def refuse(*_):
        raise RuntimeError("git status: fatal: detected dubious ownership")

    monkeypatch.setattr(prove, "commit_info", refuse)
    assert command() == 2
    assert "dubious ownership" in capsys.readouterr().err
    assert not command.saved.exists()
    assert command.measured == []


def _unfinished(saved):
    saved["pairs"] = saved["pairs"][:7]
    return "7 of 12 pairs are there"


def _other_cases(saved):
    saved["settings"]["cases"] = ["gpt2 8x1 onnx"]
    return "other cases are gated now"


def _damaged(saved):
    saved["pairs"][3]["cases"][CASES[0]]["change"] = []
    return "pair 4: cases"


def _foreign(saved):
    saved["gptloop_kind"] = "change"
    return "not a proof"


def _no_settings(saved):
    del saved["settings"]
    return "a damaged proof"


def _no_commit(saved):
    del saved["commit"]["id"]
    return "a damaged proof"


@pytest.mark.parametrize("spoil", [_unfinished, _other_cases, _damaged, _foreign, _no_settings, _no_commit])
def test_what_is_no_finished_proof_is_not_rendered(command, capsys, spoil):
    assert command() == 0
    page, saved = command.page.read_text(), json.loads(command.saved.read_text())
    words = spoil(saved)
    command.saved.write_text(json.dumps(saved))
    assert command("--render") == 2
    assert words in capsys.readouterr().err
    assert command.page.read_text() == page


def test_the_page_of_the_documentation_says_what_the_saved_proofs_say():
    """Exactly one proof is shown; before there is one, the page says so."""
    page = ROOT / "docs" / "gate.md"
    proofs = sorted((ROOT / "reports").glob("proof-*.json"))
    budgets = read_budgets(ROOT / "benchmarks" / "gate" / "budgets.toml")
    texts = [proof_page.rendered(path, budgets) for path in proofs] or ["Not measured yet."]
    assert page.read_bytes() in [with_block(page, proof_page.BLOCK, text) for text in texts]
