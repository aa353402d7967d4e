"""The gate's command, with measured pairs given: what it saves, prints and exits with."""

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from report_runs import machine

from benchmarks.command.checkout import ROOT, git
from benchmarks.gate import change, comparison
from benchmarks.gate.judge import judge_pairs
from gptloop.report.budgets import read_budgets
from gptloop.report.calibration import Calibration
from gptloop.report.machine import machine_of
from gptloop.report.verdicts import FEWEST_PROCESSES, MOST_PROCESSES

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source tree without its git repository")

CASE = "distilgpt2 1x8 onnx"
BUDGETS = f'budget = 0.02\nresolution = 0.10\ndrift = 0.15\npaired_floor = 0.04\nstored_floor = 0.1\n[cases."{CASE}"]\n'
COMMIT = {"id": "0123456789abcdef", "dirty": False}
PROFILES = {
    side: {
        "seconds": 0.01,
        "arena_bytes": 1,
        "peak_memory_bytes": 2,
        "groups": [
            {
                "place": "h.*",
                "operator": "Concat",
                "inputs": ["float[8]"],
                "nodes": nodes,
                "runs": nodes,
                "seconds": 0.001,
            }
        ],
    }
    for side, nodes in (("base", 1), ("change", 3))
}


def pairs(slower: float, *, spread: float = 0.003, control=(2.0, 2.0, 2.0, 2.0, 2.0)):
    shifts = slower * np.exp(np.random.default_rng(0).normal(0, spread, len(control)))
    return [
        {"cases": {CASE: {"base": [1.0, 1.0], "change": [shift, shift]}}, "control_s": [torch]}
        for shift, torch in zip(shifts, control, strict=True)
    ]


PEAK = {CASE: {"base": 1_000_000, "change": 1_000_000}}


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Runs the command on pairs that are given, not measured, as many goes as it asks for."""

    def call(*goes, lacking=None, peak=PEAK, options=()) -> int:
        count = len(goes[0])
        given = iter([pair for go in goes for pair in go])
        monkeypatch.setattr(comparison, "prepare", lambda *_: lacking or {})
        monkeypatch.setattr(comparison, "measure_pair", lambda *_: next(given))
        monkeypatch.setattr(comparison, "measure_peaks", lambda *_: peak)
        monkeypatch.setattr(comparison, "commit_info", lambda *_: COMMIT)
        monkeypatch.setattr(comparison, "profile_case", lambda *_: PROFILES)
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / call.step))
        (tmp_path / "b.toml").write_text(call.budgets)
        where = ["--budgets", tmp_path / "b.toml", "--output", tmp_path / call.output, "--calibrations", tmp_path]
        how = ["--processes", str(count), *options] if count else options
        return change.main(["--base", "HEAD", *map(str, where), *how])

    call.step, call.output, call.budgets = "step.md", "out.json", BUDGETS
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


def test_a_budget_on_the_control_is_refused(tmp_path, capsys):
    (tmp_path / "b.toml").write_text(BUDGETS.replace(CASE, "distilgpt2 1x8 torch"))
    arguments = ["--base", "HEAD", "--budgets", tmp_path / "b.toml", "--output", tmp_path / "out.json"]
    assert change.main([*map(str, arguments), "--calibrations", str(tmp_path)]) == 2
    assert "cannot gate 'distilgpt2 1x8 torch'" in capsys.readouterr().err


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
    assert said.splitlines()[-1] == "benchmarks.change: stopped by SIGTERM"
    assert not list((tmp_path / "tmp").glob("gptloop-*"))
    assert str(tmp_path) not in git(ROOT, "worktree", "list")


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
    values = [judge_pairs(pairs(1.035), {}, budgets, known, wanted=5)[0].value for known in (None, calibration)]
    assert values == ["unchanged", "regression"]


# Where nothing can be judged


@needs_git
@pytest.mark.parametrize(
    ("second", "value", "code"),
    [
        (pairs(1.0, spread=0.001), "unchanged", 0),
        (pairs(1.3, spread=0.001), "regression", 1),
        (pairs(1.0, spread=0.3), "unstable", 2),  # twice the pairs, and that is all
    ],
)
def test_what_cannot_be_judged_is_measured_again_once_with_twice_the_pairs(gate, tmp_path, capsys, second, value, code):
    first = pairs(1.0, control=(2.0, 2.0, 2.0, 2.0, 3.0))  # disturbed
    assert gate(first, second) == code
    saved = json.loads((tmp_path / "out.json").read_text())
    assert saved["pairs"] == [*first, *second]
    assert [one["verdict"] for one in saved["verdicts"]] == [value]
    assert "10 pairs of fresh processes (5 could not be judged)" in capsys.readouterr().out


@needs_git
def test_a_disturbed_pair_is_set_aside_where_enough_others_are_there(gate, capsys):
    first = pairs(1.0, control=(2.0, 2.0, 2.0, 2.0, 3.0))
    first[-1]["cases"][CASE]["change"] = [9.0, 9.0]  # would be a regression, or an endless interval
    assert gate(first, pairs(1.0)) == 0
    assert "1 of 10 pairs by more" in capsys.readouterr().out


@needs_git
def test_a_regression_beside_what_cannot_be_judged_is_not_measured_again(gate, tmp_path):
    gate.budgets = BUDGETS + '[cases."gpt2 1x1 onnx_int8"]\n'
    given = pairs(1.2)
    for one, shift in zip(given, (0.7, 1.4, 0.8, 1.3, 1.0), strict=True):
        one["cases"]["gpt2 1x1 onnx_int8"] = {"base": [1.0, 1.0], "change": [shift, shift]}
    assert gate(given) == 1
    assert len(json.loads((tmp_path / "out.json").read_text())["pairs"]) == 5


@needs_git
def test_the_number_of_pairs_follows_from_the_calibration(gate, tmp_path, monkeypatch):
    asked = []

    def compare(*_, wanted, **__):
        asked.append(wanted)
        raise RuntimeError

    monkeypatch.setattr(change, "compare", compare)
    for spread, name in ((0.0001, "quiet"), (0.03, "usual"), (0.3, "noisy")):
        of_machine = {"machine": change.machine.facts(), "settings": {"calibration_pairs": 20, "smoke": False}}
        proof = {"gptloop_kind": "proof", **of_machine, "pairs": pairs(1.0, spread=spread, control=(2.0,) * 20)}
        (tmp_path / f"proof-{ord(name[0])}.json").write_text(json.dumps(proof))
        assert gate([]) == 2
        (tmp_path / f"proof-{ord(name[0])}.json").unlink()
    quiet, usual, noisy = asked
    assert quiet == FEWEST_PROCESSES < usual < noisy == MOST_PROCESSES


# Memory


@needs_git
@pytest.mark.parametrize(
    ("change_bytes", "value", "code"),
    [(1_005_000, "unchanged", 0), (1_100_000, "regression", 1), (900_000, "improved", 0), (None, "missing", 2)],
)
def test_peak_memory_has_a_budget_and_a_floor_of_its_own(gate, tmp_path, capsys, change_bytes, value, code):
    gate.budgets = "memory_budget = 0.02\nmemory_floor = 0.01\n" + BUDGETS
    assert gate(pairs(1.0), peak={CASE: {"base": 1_000_000, "change": change_bytes}}) == code
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [(one["quantity"], one["verdict"]) for one in saved["verdicts"]] == [
        ("time", "unchanged"),
        ("peak memory", value),
    ]
    assert len(saved["peaks"]) == 3
    assert "| change of peak memory " in capsys.readouterr().out


@needs_git
def test_memory_alone_that_cannot_be_judged_is_no_reason_to_time_again(gate):
    gate.budgets = "memory_budget = 0.02\nmemory_floor = 0.01\n" + BUDGETS
    assert gate(pairs(1.0), peak={CASE: {"base": None, "change": None}}) == 2


# What is written


@pytest.fixture
def files(tmp_path):
    paths = {kind: tmp_path / f"gate.{kind}" for kind in ("markdown", "html", "junit")}
    return paths, [str(word) for kind, path in paths.items() for word in (f"--{kind}", path)]


@needs_git
def test_a_regression_is_explained_in_every_form(gate, tmp_path, capsys, files):
    paths, options = files
    assert gate(pairs(1.2), options=options) == 1
    culprit = "2 Concat appeared in h.*"
    (found,) = json.loads((tmp_path / "out.json").read_text())["explanations"]
    assert found["culprits"][0].startswith(culprit)
    printed = capsys.readouterr().out
    assert culprit in printed.replace("\\", "")
    assert paths["markdown"].read_text().endswith(printed)
    assert culprit in paths["html"].read_text()
    assert ET.parse(paths["junit"]).getroot().get("failures") == "1"


@needs_git
@pytest.mark.parametrize(("slower", "explain", "count"), [(1.0, "slower", 0), (1.0, "all", 1), (1.2, "none", 0)])
def test_what_is_explained_can_be_chosen(gate, tmp_path, slower, explain, count):
    gate(pairs(slower), options=["--explain", explain])
    assert len(json.loads((tmp_path / "out.json").read_text())["explanations"]) == count


@needs_git
def test_a_gate_that_ends_early_leaves_no_green_file_of_before(gate, files):
    paths, options = files
    assert gate(pairs(1.0), options=options) == 0
    assert gate([{"cases": {}, "control_s": [1.0]}] * 3, options=options) == 2
    assert ET.parse(paths["junit"]).getroot().get("errors") == "1"
    for kind in ("markdown", "html"):
        assert "that is not a pass" in paths[kind].read_text().lower()


@needs_git
@pytest.mark.parametrize("kind", ["markdown", "html", "junit"])
def test_a_file_of_somebody_else_is_not_replaced(gate, tmp_path, capsys, kind):
    (tmp_path / "mine").write_text("notes")
    assert gate(pairs(1.0), options=[f"--{kind}", str(tmp_path / "mine")]) == 2
    assert "mine: stands there already" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "notes"


@needs_git
def test_two_forms_cannot_have_one_file(gate, tmp_path, capsys):
    assert gate(pairs(1.0), options=["--html", str(tmp_path / "x"), "--junit", str(tmp_path / "x")]) == 2
    assert "cannot hold two of" in capsys.readouterr().err
