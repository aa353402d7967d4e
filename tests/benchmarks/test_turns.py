"""Two trees in processes that take turns; the gate's command; the regression on purpose."""

import itertools
import json
import shutil
import subprocess
import time
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from report_runs import machine

from benchmarks.gate import change
from benchmarks.gate.turns import CONTROL, ROOT, Files, Process, Work, commit_info, gated_case, measure_pair, prepare
from benchmarks.timing import turn_worker
from gptloop.exporter.inspect import inspect
from gptloop.report.calibration import Calibration
from gptloop.report.machine import machine_of

PATCH = ROOT / "benchmarks" / "gate" / "regressions" / "packed-cache.patch"
needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source tree without its git repository")


def work(*names: str, rounds: int = 2) -> Work:
    return Work([gated_case(name) for name in names], CONTROL, rounds, "cpu", 1, smoke=True)


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def regressed_tree(tmp_path_factory):
    """A copy of the package with the regression on purpose."""
    tree = tmp_path_factory.mktemp("regressed")
    shutil.copytree(ROOT / "gptloop", tree / "gptloop", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", str(PATCH)], cwd=tree, check=True)
    return tree


def test_each_tree_exports_and_runs_its_own_graph_and_the_patch_adds_a_concat_per_layer(regressed_tree, tmp_path):
    """The patched tree has the same tokens, so nothing is missing; and each arm is timed in each round."""
    files = Files(tmp_path, {"base": ROOT, "change": regressed_tree})
    one = work("distilgpt2 1x8 onnx")
    assert prepare(files, one, silent) == {}
    before, after = (inspect(files.exported(side, one.cases[0])) for side in ("base", "change"))
    added = Counter({("ai.onnx", "Concat"): 2, ("ai.onnx", "Split"): 2})  # the tiny model has 2 layers
    assert after.body_nodes == before.body_nodes + added
    assert after.nodes_per_layer == before.nodes_per_layer + 2

    pair = measure_pair(files, one, {"base": ("base", 0.0), "change": ("change", 0.0), "slow": ("change", 0.5)})
    rounds = pair["cases"]["distilgpt2 1x8 onnx"]
    assert {arm: len(times) for arm, times in rounds.items()} == {"base": 2, "change": 2, "slow": 2}
    assert len(pair["control_s"]) == 2
    (added,) = pair["added_s"].values()
    assert all(0 < part < whole for part, whole in zip(added["slow"], rounds["slow"], strict=True))


def fake_tree(folder, content: str):
    (folder / "gptloop").mkdir(parents=True)
    (folder / "gptloop" / "__init__.py").write_text(content)
    return folder


LACKS_INT8 = "def export(model, path, *, precision): raise ValueError(f'precision must be fp32, got {precision!r}')"
OTHER_TOKENS = """
import numpy as np
def export(model, path, *, precision): open(path, "w").close()
class OnnxLoop:
    def __init__(self, path, *, device, threads): pass
    def generate(self, ids, *, num_return_sequences, max_new_tokens, **others):
        return np.zeros((len(ids) * num_return_sequences, max_new_tokens), np.int64)
"""


@pytest.mark.parametrize(
    ("package", "case", "words"),
    [
        (LACKS_INT8, "distilgpt2 1x8 onnx_int8", "the base's tree cannot run it: ValueError: precision must be fp32"),
        (OTHER_TOKENS, "distilgpt2 1x8 onnx", "the base generates other tokens than the PyTorch loop"),
    ],
)
def test_a_base_that_lacks_a_case_or_has_other_tokens_is_not_timed(tmp_path, package, case, words):
    files = Files(tmp_path / "files", {"base": fake_tree(tmp_path / "base", package), "change": ROOT})
    (reason,) = prepare(files, work(case), silent).values()
    assert words in reason


def test_a_process_that_dies_says_what_it_said(tmp_path):
    process = Process(fake_tree(tmp_path, "raise SystemExit('no ONNX Runtime here')"))
    with pytest.raises(RuntimeError, match=r"ended with 1:\n.*no ONNX Runtime here"):
        process.ask("hello")
    process.close()


@pytest.mark.parametrize(("spins_s", "rests_s"), [(0.0, 0.005), (0.022, 0.03), (10.0, turn_worker.QUIET_WITHIN_S)])
def test_a_worker_answers_when_its_threads_have_stopped_spinning_or_after_a_second(monkeypatch, spins_s, rests_s):
    """A process whose threads spin for so long uses as much time of the processor as goes by, and then none."""
    now = itertools.accumulate(itertools.repeat(0.005), initial=0.0)
    clock = [next(now)]
    fake = SimpleNamespace(
        perf_counter=lambda: clock[-1],
        process_time=lambda: min(clock[-1], spins_s),
        sleep=lambda _: clock.append(next(now)),
    )
    monkeypatch.setattr(turn_worker, "time", fake)
    assert turn_worker.rest() == pytest.approx(rests_s)


def test_the_work_added_is_the_fraction_asked_for():
    worker = turn_worker.Worker()
    worker._calls["c"], worker._plain_s["c"] = lambda: time.sleep(0.02), [0.02] * 3
    answer = worker.turn("c", slower=0.5)
    assert answer["seconds"] >= 0.03
    assert answer["added_s"] >= 0.01
    assert worker._plain_s["c"] == [0.02] * 3  # slowed calls do not count as usual ones


@pytest.mark.parametrize("name", ["gpt2 3x3 onnx", "gpt2 8x1 hf_generate", "gpt2"])
def test_only_exported_files_in_cases_of_the_grid_can_be_gated(name):
    with pytest.raises(ValueError, match=f"cannot gate '{name}': expected one of distilgpt2 1x8"):
        gated_case(name)


def test_the_gated_cases_of_the_budget_file_are_cases_of_the_grid():
    budgets = change.read_budgets(ROOT / "benchmarks" / "gate" / "budgets.toml")
    assert [gated_case(name).name for name in budgets.cases]


# The command, with measured pairs given

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
        monkeypatch.setattr(change, "_measure", lambda *_: measured)
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


@needs_git
def test_a_base_is_a_worktree_that_goes_away():
    with change.worktree("HEAD") as tree:
        assert (tree / "gptloop" / "__init__.py").exists()
        assert commit_info(tree) == {"id": commit_info(ROOT)["id"], "dirty": False}
    assert not tree.exists()
    assert str(tree) not in change.git(ROOT, "worktree", "list")


def test_too_few_processes_are_refused(capsys):
    with pytest.raises(SystemExit) as raised:
        change.main(["--base", "HEAD", "--processes", "2"])
    assert raised.value.code == 2
    assert "must be at least 3, got 2" in capsys.readouterr().err


def test_a_calibrated_machine_catches_what_an_assumed_floor_lets_pass(tmp_path):
    (tmp_path / "b.toml").write_text(BUDGETS)
    budgets = change.read_budgets(tmp_path / "b.toml")
    calibration = Calibration("proof.json", machine_of(machine()), pairs(1.0, control=(2.0,) * 20))
    values = [change.judge_pairs(pairs(1.035), {}, budgets, known)[0].value for known in (None, calibration)]
    assert values == ["unchanged", "regression"]
