"""Two trees in processes that take turns, and the regression on purpose."""

import itertools
import time
from collections import Counter
from types import SimpleNamespace

import psutil
import pytest
from regressed import regressed

from benchmarks.command.checkout import ROOT
from benchmarks.gate.pair import measure_pair
from benchmarks.gate.prepare import prepare
from benchmarks.gate.process import Process, processes
from benchmarks.gate.work import CONTROL, Files, Work, gated_case
from benchmarks.timing import turn_worker
from gptloop.exporter.inspect import inspect
from gptloop.report.budgets import read_budgets


def work(*names: str, rounds: int = 2) -> Work:
    return Work([gated_case(name) for name in names], CONTROL, rounds, "cpu", 1, smoke=True)


def silent(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def regressed_tree(tmp_path_factory):
    return regressed(tmp_path_factory.mktemp("regressed"), "packed-cache")


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


@pytest.mark.parametrize("name", ["gpt2 3x3 onnx", "gpt2 8x1 hf_generate", "gpt2 8x1 torch", "gpt2"])
def test_only_exported_files_in_cases_of_the_grid_can_be_gated(name):
    with pytest.raises(ValueError, match=f"cannot gate '{name}': expected one of distilgpt2 1x8"):
        gated_case(name)


@pytest.mark.parametrize("name", ["budgets", "int8_rows_budgets"])
def test_the_gated_cases_of_a_budget_file_are_cases_of_the_grid(name):
    budgets = read_budgets(ROOT / "benchmarks" / "gate" / f"{name}.toml")
    assert [gated_case(name).name for name in budgets.cases]


def test_a_comparison_that_is_given_up_does_not_wait_for_what_its_processes_are_at(tmp_path):
    def give_up():
        slow = "import time\ndef export(model, path, *, precision): time.sleep(60)\n"
        with processes({"base": fake_tree(tmp_path, slow)}) as running:
            running["base"].send("export", checkpoint="", path="", precision="fp32")
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        give_up()
    assert time.monotonic() - start < 50


def test_a_process_that_cannot_be_started_leaves_none_of_those_before_it(tmp_path):
    process = psutil.Process()
    before = process.num_fds(), process.children()
    trees = {"base": fake_tree(tmp_path / "base", ""), "change": tmp_path / "missing"}
    with pytest.raises(FileNotFoundError) as raised, processes(trees):
        pytest.fail("one of them has no folder")
    assert (process.num_fds(), process.children()) == before, "while the error is held, with the frames it came from"
    assert raised
