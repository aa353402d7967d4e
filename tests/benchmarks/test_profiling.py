"""ONNX Runtime's profiles as plain data, and both regressions on purpose: the explanation names the culprit."""

import json
import shutil

import pytest
from regressed import regressed

from benchmarks.command.checkout import ROOT
from benchmarks.gate.process import processes
from benchmarks.gate.profiling import profile_case, read_profile
from benchmarks.gate.work import CONTROL, PRECISIONS, Files, Work, gated_case
from gptloop.report.explanation import explain

STEP = "with_later/decode_block/decode_one_token"


def node(name: str, operator: str, ts: int, dur: int, *shapes: list[int]):
    read = [{"float": shape} for shape in shapes]
    args = {"op_name": operator, "input_type_shape": read, "mem_in_use_peak": str(ts)}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}


def call(ts: int, slow: int = 0):
    """A Loop of two steps in two layers, 100 us long, whose cache grows."""
    return [
        {"cat": "Session", "name": "model_run", "ts": ts, "dur": 100 + slow},
        node("Loop_node_9", "Loop", ts + 5, 90 + slow, [8]),
        node("body/h.0/Concat_node_1", "Concat", ts + 10, 10, [8, 1], [8, 1]),
        node("body/h.1/Concat_node_2", "Concat", ts + 20, 10, [8, 1], [8, 1]),
        node("body/h.0/Concat_node_1", "Concat", ts + 30, 10 + slow, [8, 2], [8, 1]),
        node("body/h.1/Concat_node_2", "Concat", ts + 40 + slow, 10, [8, 2], [8, 1]),
        node("body/Add_node_3", "Add", ts + 50 + slow, 10, [8], []),
    ]


@pytest.fixture
def profile(tmp_path):
    def read(*calls, warm_calls=0):
        events = [event for one in calls for event in one]
        (tmp_path / "profile.json").write_text(json.dumps(events))
        return read_profile(tmp_path / "profile.json", warm_calls=warm_calls)

    return read


def test_a_loops_time_is_its_own_and_layers_are_alike(profile):
    groups = {one["operator"]: one for one in profile(call(1000))["groups"]}
    assert {name: round(one["seconds"] * 1e6) for name, one in groups.items()} == {"Loop": 40, "Concat": 40, "Add": 10}
    assert groups["Concat"] | {"seconds": 0} == {
        "place": "body/h.*",
        "operator": "Concat",
        "inputs": ["float[8,1..2]", "float[8,1]"],
        "nodes": 2,
        "runs": 4,
        "seconds": 0,
    }
    assert groups["Loop"]["place"] == "outside"
    assert groups["Add"]["inputs"] == ["float[8]", "float[]"]


def test_a_run_that_the_system_held_up_does_not_make_its_operator_slow(profile):
    quiet, disturbed = (profile(call(1000), call(2000, slow), call(9000)) for slow in (0, 5000))
    assert disturbed["groups"] == quiet["groups"]
    assert disturbed["seconds"] == pytest.approx(100e-6)


def test_calls_that_warm_up_are_left_out(profile):
    assert profile(call(1000, 700), call(3000), warm_calls=1)["seconds"] == pytest.approx(100e-6)


def test_the_arena_is_told_at_its_fullest(profile):
    assert profile(call(1000), call(2000))["arena_bytes"] == 2050


def work(case: str) -> Work:
    return Work([gated_case(case)], CONTROL, 2, "cpu", 1, smoke=True)


@pytest.mark.parametrize(
    ("patch", "case", "culprit"),
    [
        ("unpacked-weights", "distilgpt2 1x8 onnx", f"Unpacked products: 8 Gemm in {STEP}/h.*"),
        ("unpacked-weights", "gpt2 1x1 onnx_int8", f"Unpacked products: 8 MatMulIntegerToFloat in {STEP}/"),
        ("packed-cache", "distilgpt2 1x8 onnx", f"2 Concat and 2 Split appeared in {STEP}/h.*"),
    ],
)
def test_of_a_regression_on_purpose_the_culprit_is_named(tmp_path, tiny_checkpoint, patch, case, culprit):
    """The tiny model has 2 layers of 4 products each."""
    tree = regressed(tmp_path / "tree", patch)
    (tmp_path / "files").mkdir()
    files, one = Files(tmp_path / "files", {"base": ROOT, "change": tree}), gated_case(case)
    shutil.copytree(tiny_checkpoint, files.checkpoint(one.size))
    with processes(files.trees) as started:
        for side, process in started.items():
            path = files.exported(side, one)
            path.parent.mkdir()
            checkpoint = str(files.checkpoint(one.size))
            process.send("export", checkpoint=checkpoint, path=str(path), precision=PRECISIONS[one.contender])
        assert [process.receive() for process in started.values()] == [{}, {}]
    profiles = profile_case(files, one, work(case))
    found = explain(case, profiles["base"], profiles["change"])
    assert any(said.startswith(culprit) for said in found["culprits"]), found["culprits"]
    assert found["memory"]["peak_memory_bytes"]["base"] > 10_000_000
    assert not list((tmp_path / "files").glob("profile-*"))  # megabytes each


@pytest.fixture(scope="module")
def tiny_checkpoint(tmp_path_factory):
    from benchmarks.tiny import tiny_model  # noqa: PLC0415  (torch, for these tests alone)

    folder = tmp_path_factory.mktemp("tiny") / "checkpoint"
    tiny_model().save_pretrained(folder)
    return folder


def test_a_side_that_cannot_be_profiled_says_so(tmp_path, tiny_checkpoint):
    files = Files(tmp_path, {"base": ROOT, "change": ROOT})
    shutil.copytree(tiny_checkpoint, files.checkpoint("gpt2"))
    with pytest.raises(RuntimeError, match=r"gpt2 1x1 onnx_int8 of base cannot be profiled: .*gpt2-int8\.onnx"):
        profile_case(files, gated_case("gpt2 1x1 onnx_int8"), work("gpt2 1x1 onnx_int8"))
