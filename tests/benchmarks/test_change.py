"""The gate's command, with measured pairs given: what it saves, prints and exits with."""

import json
import os
import signal
import subprocess
import sys

import pytest
from given_pairs import BUDGETS, CASE, pairs
from report_runs import machine

from benchmarks.command.checkout import ROOT
from benchmarks.gate import change
from benchmarks.gate.judge import judge_pairs
from gptloop.report.budgets import read_budgets
from gptloop.report.calibration import Calibration
from gptloop.report.checkout import git
from gptloop.report.machine import machine_of

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source tree without its git repository")


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
        ([], {CASE: "the base's tree cannot run it"}, "missing", 2),
    ],
)
def test_the_command_saves_prints_and_exits_with_the_verdict(gate, tmp_path, capsys, given, lacking, value, code):
    assert gate(given, lacking=lacking) == code
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["gptloop_kind"] == "change"
    assert saved["exit_code"] == code
    assert saved["pairs"] == given
    assert saved["machine"]["cpu"]
    assert [one["verdict"] for one in saved["verdicts"]] == [value]
    printed = capsys.readouterr().out
    assert f"| {value} " in printed
    assert printed.strip() == (tmp_path / "step.md").read_text().strip()


def _saved_run(folder):
    (folder / "out.json").write_text('{"benchmarks": []}')


def _not_json(folder):
    (folder / "out.json").write_text("notes")


def _folder(folder):
    (folder / "out.json").mkdir()


def _broken_link(folder):
    (folder / "out.json").symlink_to(folder / "gone")


@needs_git
@pytest.mark.parametrize("put", [_saved_run, _not_json, _folder, _broken_link])
def test_nothing_is_replaced_but_an_earlier_comparison(gate, tmp_path, capsys, put):
    put(tmp_path)
    before = (tmp_path / "out.json").lstat()
    assert gate(pairs(1.0)) == 2
    assert "out.json: " in capsys.readouterr().err
    assert (tmp_path / "out.json").lstat().st_ino == before.st_ino
    assert (tmp_path / "out.json").lstat().st_mtime_ns == before.st_mtime_ns


@needs_git
def test_an_earlier_comparison_is_replaced(gate):
    assert gate(pairs(1.0)) == gate(pairs(1.0)) == 0


@needs_git
def test_what_nobody_expected_is_no_regression(gate, capsys):
    assert gate([{"cases": {}, "control_s": [1.0]}] * 3) == 2
    assert "unexpected KeyError" in capsys.readouterr().err


def test_a_budget_on_the_control_is_refused(tmp_path):
    (tmp_path / "b.toml").write_text(BUDGETS.replace(CASE, "distilgpt2 1x8 torch"))
    arguments = ["--base", "HEAD", "--budgets", tmp_path / "b.toml", "--output", tmp_path / "out.json"]
    with pytest.raises(ValueError, match="cannot gate 'distilgpt2 1x8 torch'"):
        change.main([*map(str, arguments), "--calibrations", str(tmp_path)])


@needs_git
def test_a_tree_of_which_git_does_not_tell_is_not_judged(gate, capsys, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to test this
    assert gate(pairs(1.0)) == 2
    assert "dubious ownership" in capsys.readouterr().err


@needs_git
def test_a_comparison_that_is_told_to_end_leaves_nothing_behind(tmp_path):
    (tmp_path / "b.toml").write_text(BUDGETS)
    files = ["--budgets", tmp_path / "b.toml", "--output", tmp_path / "out.json", "--calibrations", tmp_path]
    command = [sys.executable, "-m", "benchmarks.change", "--base", "HEAD", "--smoke", *map(str, files)]
    (tmp_path / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "exports and tries" in line:  # the base's worktree, the folder of the files and the processes are there
            assert len(list((tmp_path / "tmp").glob("gptloop-*"))) == 2
            process.send_signal(signal.SIGTERM)
            break
    _, said = process.communicate()
    assert process.returncode == 143
    assert said.splitlines()[-1] == "benchmarks.change: interrupted"
    assert not list((tmp_path / "tmp").glob("gptloop-*"))
    assert str(tmp_path) not in git(ROOT, "worktree", "list")


@needs_git
def test_an_unknown_revision_is_named_and_nothing_is_measured(tmp_path):
    with pytest.raises(RuntimeError, match="no revision 'no-such-revision' here"):
        change.main(["--base", "no-such-revision", "--output", str(tmp_path / "out.json")])


def test_too_few_processes_are_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        change.main(["--base", "HEAD", "--processes", "2"])
    assert raised.value.code == 2
    assert "must be at least 3, got 2" in capsys.readouterr().err


def test_a_calibrated_machine_catches_what_an_assumed_floor_lets_pass(tmp_path):
    (tmp_path / "b.toml").write_text(BUDGETS)
    budgets = read_budgets(tmp_path / "b.toml")
    calibration = Calibration("proof.json", machine_of(machine()), pairs(1.0, control=(2.0,) * 20))
    values = [judge_pairs(pairs(1.035), {}, budgets, known, wanted=5)[0].value for known in (None, calibration)]
    assert values == ["unchanged", "regression"]
