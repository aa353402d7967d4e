"""The gate's command, with measured pairs given: what it saves, prints and exits with."""

import json

import numpy as np
import pytest
from report_runs import machine

from benchmarks.command.checkout import ROOT
from benchmarks.gate import change
from benchmarks.gate.judge import judge_pairs
from gptloop.report.budgets import read_budgets
from gptloop.report.calibration import Calibration
from gptloop.report.machine import machine_of

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source tree without its git repository")

CASE = "distilgpt2 1x8 onnx"
BUDGETS = f'budget = 0.02\nresolution = 0.10\ndrift = 0.15\npaired_floor = 0.04\nstored_floor = 0.1\n[cases."{CASE}"]\n'
COMMIT = {"id": "0123456789abcdef", "dirty": False}


def pairs(slower: float, *, spread: float = 0.003, control=(2.0, 2.0, 2.0, 2.0, 2.0)):
    shifts = slower * np.exp(np.random.default_rng(0).normal(0, spread, len(control)))
    return [
        {"cases": {CASE: {"base": [1.0, 1.0], "change": [shift, shift]}}, "control_s": [torch]}
        for shift, torch in zip(shifts, control, strict=True)
    ]


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Runs the command on pairs that are given, not measured."""

    def call(given, lacking=None) -> int:
        measured = {"base": COMMIT, "change": COMMIT, "rounds": 2, "missing": lacking or {}, "pairs": given}
        monkeypatch.setattr(change, "measure_pairs", lambda *_: measured)
        (tmp_path / "b.toml").write_text(BUDGETS)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / call.step))
        where = ["--budgets", tmp_path / "b.toml", "--output", tmp_path / call.output, "--calibrations", tmp_path]
        return change.main(["--base", "HEAD", *map(str, where)])

    call.step, call.output = "step.md", "out.json"
    return call


@needs_git
@pytest.mark.parametrize(
    ("where", "words"),
    [({"step": "no/s.md"}, "s.md: cannot be written"), ({"output": "no/o.json"}, "no: no such folder")],
)
def test_what_cannot_be_written_is_no_regression(gate, capsys, where, words):
    vars(gate).update(where)
    assert gate(pairs(1.08)) == 2
    assert words in capsys.readouterr().err


@needs_git
@pytest.mark.parametrize(
    ("given", "lacking", "value", "code"),
    [
        (pairs(1.0), None, "unchanged", 0),
        (pairs(1.08), None, "regression", 1),
        (pairs(0.9), None, "improved", 0),
        (pairs(1.0, spread=0.1), None, "unstable", 2),
        (pairs(1.08, control=(2.0, 2.0, 2.0, 2.0, 3.0)), None, "unstable", 2),
        ([], {CASE: "the base's tree cannot run it"}, "missing", 2),
    ],
)
def test_the_command_saves_prints_and_exits_with_the_verdict(gate, tmp_path, capsys, given, lacking, value, code):
    assert gate(given, lacking) == code
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["gptloop_kind"] == "change"
    assert saved["exit_code"] == code
    assert saved["pairs"] == given
    assert saved["machine"]["cpu"]
    assert [one["verdict"] for one in saved["verdicts"]] == [value]
    printed = capsys.readouterr().out
    assert f"| {value} " in printed
    assert printed.strip() == (tmp_path / "step.md").read_text().strip()


@needs_git
def test_an_unknown_revision_is_named_and_nothing_is_measured(capsys, tmp_path):
    assert change.main(["--base", "no-such-revision", "--output", str(tmp_path / "out.json")]) == 2
    assert "no revision 'no-such-revision' here" in capsys.readouterr().err


def test_too_few_processes_are_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        change.main(["--base", "HEAD", "--processes", "2"])
    assert raised.value.code == 2
    assert "must be at least 3, got 2" in capsys.readouterr().err


def test_a_calibrated_machine_catches_what_an_assumed_floor_lets_pass(tmp_path):
    (tmp_path / "b.toml").write_text(BUDGETS)
    budgets = read_budgets(tmp_path / "b.toml")
    calibration = Calibration("proof.json", machine_of(machine()), pairs(1.0, control=(2.0,) * 20))
    values = [judge_pairs(pairs(1.035), {}, budgets, known)[0].value for known in (None, calibration)]
    assert values == ["unchanged", "regression"]
