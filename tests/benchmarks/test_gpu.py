"""The script for a GPU, rehearsed without one: every stage runs, and a cut run keeps what it has."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import onnxruntime as ort
import pytest
import torch

from benchmarks.cases import GPU_GRID
from benchmarks.contenders import Files
from benchmarks.gpu import checks, run
from benchmarks.gpu.stages import Stages
from benchmarks.machine import cuda
from benchmarks.workloads import CANDIDATES
from gptloop.reference.bounds import ParityError
from gptloop.report.run_file import STEP_COUNTS
from gptloop.report.runs import read_runs

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """The folder that a rehearsal leaves, with the grid's first case only."""
    plan = run.rehearsal()
    plan.cases = (replace(plan.cases[0], contenders=("torch", "onnx", "onnx_lean")),)
    folder = tmp_path_factory.mktemp("gpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "rehearsal", lambda: plan)
        assert run.main(["--output", str(folder / "out"), "--rehearse"]) == 0
    return folder / "out"


def read(path):
    return json.loads(path.read_text())


def test_every_stage_is_done_and_noted(rehearsed):
    stages = {record["stage"]: record["outcome"] for record in read(rehearsed / "stages.json")}
    assert list(stages) == ["facts", "correctness", "trace", "machine", "case-1-tiny-1x64-fp16", "report"]
    assert set(stages.values()) == {"done"}


def test_correctness_says_what_was_compared_for_every_flavor_and_precision(rehearsed):
    found = read(rehearsed / "correctness.json")
    for name in checks.ONNX:
        assert found[f"fp32 {name}"] == {"rows": 4, "excused_rows": 0}
        assert found[f"fp16 {name}"]["rows"] == 4
    assert set(found["fp32 onnx nodes by provider"]) == {"CPUExecutionProvider"}
    assert found["fp16 log-probabilities"]["logprob_error"] < 0.125


def test_the_trace_has_a_step_of_every_loop_and_its_kernels(rehearsed):
    found = read(rehearsed / "trace.json")
    assert list(found) == ["torch", *checks.ONNX]
    # Of a captured call, which is one launch however many its tokens, a step has no launch.
    assert all("graph_launches" in found["onnx_unrolled"][part] for part in ("step", "call"))
    assert "the call" in (rehearsed / "profiles" / "kernels-onnx_lean.txt").read_text()
    assert "CPUExecutionProvider" in (rehearsed / "profiles" / "nodes-fp32-onnx.txt").read_text()


def test_a_case_is_a_run_that_the_report_reads_and_shows(rehearsed):
    runs = read_runs(rehearsed / "reports")
    assert sorted(runs["contender"]) == ["onnx", "onnx_lean", "torch"]
    assert set(runs["precision"]) == {"fp16"}
    assert set(runs["group"]) == {"tiny 1x64 fp16"}
    assert [len(rounds_s) for rounds_s in runs["rounds_s"]] == [2, 2, 2]
    assert "perplexity" in runs.set_index("contender").loc["onnx", "parity_check"]
    none = dict.fromkeys(STEP_COUNTS, 0.0)  # traced where there is no GPU to do anything
    assert runs["step_counts"].tolist() == [none, none, none]
    assert (rehearsed / "reports" / "summary.md").exists()
    assert list((rehearsed / "reports" / "charts").glob("*.svg"))


def test_the_machines_speeds_are_numbers(rehearsed):
    found = read(rehearsed / "machine.json")
    assert found["bandwidth_bytes_per_s"] > 0
    assert set(found["flops_per_s"]) == {"fp32", "fp16"}


def test_every_kind_of_case_of_the_grid_is_rehearsed():
    plan = run.rehearsal()
    assert {(c.workload.id, c.precision) for c in plan.cases} == {(c.workload.id, c.precision) for c in GPU_GRID}
    assert {name for c in plan.cases for name in c.contenders} == {name for c in GPU_GRID for name in c.contenders}


def test_without_a_gpu_it_ends_with_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run.main(["--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error == "benchmarks.gpu: error: no GPU to measure: torch.cuda.is_available() is false\n"
    assert not (tmp_path / "out").exists()


def test_without_onnx_runtime_for_cuda_it_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert run.main(["--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "install onnxruntime-gpu" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("budget", ["nan", "inf", "0", "-1", "soon", "1" * 100_000])
def test_a_budget_is_a_finite_time(budget, tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        run.main(["--output", str(tmp_path / "out"), f"--budget-s={budget}"])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert f"expected seconds above 0, got '{budget[:3]}" in error
    assert len(error) < 1000


def test_an_output_that_is_a_file_is_one_line_and_no_failed_stage(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert run.main(["--output", str(tmp_path / "out"), "--rehearse"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_a_stage_that_fails_is_noted_and_the_next_one_runs(tmp_path):
    stages = Stages(tmp_path, budget_s=60)
    stages.run("first", 1, lambda: 1 / 0)
    stages.run("second", 1, lambda: {"x": 1})
    first, second = read(tmp_path / "stages.json")
    assert (first["outcome"], first["note"]) == ("failed", "ZeroDivisionError: division by zero")
    assert second["outcome"] == "done"
    assert read(tmp_path / "second.json") == {"x": 1}
    assert stages.failed == ["first"]


def test_a_stage_beyond_the_budget_is_skipped_with_a_note(tmp_path):
    stages = Stages(tmp_path, budget_s=30)
    stages.run("long", 31, lambda: pytest.fail("not to be run"))
    stages.run("short", 1, lambda: {})
    long, short = read(tmp_path / "stages.json")
    assert long["outcome"] == "skipped"
    assert "needs about 31 s" in long["note"]
    assert short["outcome"] == "done"


def test_wrong_tokens_fail_the_stage_after_all_was_looked_at(tmp_path, monkeypatch):
    def found(files, workload, device, profiles):
        return {f"{files.precision} onnx": {"error": "row 0"}, f"{files.precision} onnx_lean": {"rows": 1}}

    monkeypatch.setattr(checks, "in_precision", found)
    files = Files(tmp_path, tmp_path, tmp_path, "")
    with pytest.raises(ParityError, match=r"wrong: fp32 onnx, fp16 onnx$"):
        checks.correctness(files, CANDIDATES, "cpu", tmp_path)
    assert len(read(tmp_path / "correctness.json")) == 4


def test_nodes_are_counted_by_who_ran_them():
    ran = {"provider": "CUDAExecutionProvider", "op_name": "MatMul"}
    node = {"cat": "Node", "name": "MatMul_kernel_time", "args": ran}
    fence = {"cat": "Node", "name": "MatMul_fence_before", "args": {"op_name": "MatMul"}}
    session = {"cat": "Session", "name": "model_run"}
    assert checks.count_nodes([node, node, fence, session]) == Counter({("CUDAExecutionProvider", "MatMul"): 2})


def test_on_the_cpu_no_memory_of_a_device_is_used():
    assert cuda.used_bytes("cpu") is None
    assert cuda.growth(None, "cpu") is None
