"""One whole measurement of a case, on a tiny model."""

from __future__ import annotations

import json
import statistics
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from counts import Counts

from benchmarks.cases import Case
from benchmarks.contenders import AbsentError
from benchmarks.contenders.apart import Apart
from benchmarks.measuring.measure import measure
from benchmarks.measuring.measurement import Measurement, Setting
from benchmarks.measuring.rounds import time_rounds
from benchmarks.measuring.saved import extra_info
from benchmarks.workloads import Workload
from gptloop.bench import memory
from gptloop.report.run_file import BOUNDS

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ROWS = Workload("1x2", "2 candidates", prompts=1, num_return_sequences=2, prompt_len=5, max_new_tokens=6, top_k=5)


def test_a_case_is_measured_whole(tiny, files, monkeypatch):
    """Loading, parity, rounds, lower bounds, the early tokens, and each contender alone in a process of its own."""
    monkeypatch.setattr(memory, "BUFFER_BYTES", 1 << 20)
    names = ("torch", "onnx")
    case = Case("tiny", ROWS, rounds=3, alone_rounds=1, contenders=names, ceiling=True, early_tokens=3)
    said = []
    found = measure(case, names, files, tiny.model.config, device="cpu", threads=1, say=said.append)
    # Next to each other, so that a machine that gets slower does not look like a text that gets longer.
    order = "torch, torch's first tokens, onnx, onnx's first tokens, onnx products, attention's products, memory"
    assert f"3 interleaved rounds of {ROWS.max_new_tokens} new tokens: {order}" in said
    info = {name: extra_info(case, name, found[name], found[name].parity) for name in names}
    assert json.loads(json.dumps(info)) == info
    for name, facts in info.items():
        assert [len(facts[key]) for key in ("ttft_rounds_s", "early_rounds_s", "alone_rounds_s")] == [3, 3, 1]
        assert facts["load_s"] == found[name].alone["load_s"] > 0
        for passes in (facts["own_passes_s"], facts["exchanged_passes_s"]):
            assert [len(pair) for pair in passes] == [2, 2, 2]
            assert all(seconds > 0 for pair in passes for seconds in pair)
        early_s = (statistics.median(facts["early_rounds_s"]) - facts["ttft_s"]) / 2
        assert facts["early_time_per_output_token_s"] == pytest.approx(early_s)
    onnx_info = info["onnx"]
    assert onnx_info["ceiling_kind"] in BOUNDS
    assert onnx_info["ceiling_rounds_s"] == onnx_info[f"{onnx_info['ceiling_kind']}_rounds_s"]
    for with_weights_s, all_s in zip(onnx_info["products_rounds_s"], onnx_info["all_products_rounds_s"], strict=True):
        assert with_weights_s < all_s
    medians = {kind: statistics.median(onnx_info[f"{kind}_rounds_s"]) for kind in BOUNDS}
    assert max(medians, key=medians.get) == onnx_info["ceiling_kind"]
    assert all(len(onnx_info[key]) == 3 for key in ("ceiling_rounds_s", "ceiling_ttft_rounds_s"))
    assert "ceiling_kind" not in info["torch"]


def apart():
    return Apart(Counts, 3, huge_pages=False)


def test_the_first_tokens_are_called_for_three_times_beside_each_whole_call(monkeypatch):
    """Of each round, the mean; the contender here takes a second for each token."""
    now, calls = [0.0], []

    class Clocked:
        def generate(self, ids, workload, *, max_new_tokens, greedy=False):
            calls.append(max_new_tokens)
            now[0] += max_new_tokens

    monkeypatch.setattr("gptloop.bench.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))
    case = Case("tiny", ROWS, rounds=2, alone_rounds=0, contenders=("torch",), early_tokens=3)
    results = {"torch": Measurement("cpu", "random, seed 0")}
    setting = Setting(case, None, None, np.zeros((1, 4), np.int64), "cpu", 1, lambda _: None)
    time_rounds(setting, {"torch": Clocked()}, results)
    N = ROWS.max_new_tokens
    assert results["torch"].rounds_s == [N, N]
    assert results["torch"].early_rounds_s == [3, 3]
    whole = [count for count in calls if count != 1]
    assert whole[-8:] == [N, 3, 3, 3, 3, 3, 3, N]  # forwards, then backwards


def test_an_absent_contender_is_told_apart_and_the_others_are_measured(tiny, files, monkeypatch):
    def refuse(*_, **__):
        raise AbsentError("no compiler")

    monkeypatch.setattr("benchmarks.contenders.torch_compiled.load", refuse)
    names = ("torch", "torch_compiled", "onnx")
    case = Case("tiny", ROWS, rounds=1, alone_rounds=0, contenders=names)
    found = measure(case, names, files, tiny.model.config, device="cpu", threads=1, say=lambda _: None)
    assert found["torch_compiled"].absent == "no compiler"
    assert not found["torch_compiled"].rounds_s
    assert found["onnx"].rounds_s


@pytest.mark.parametrize(
    "fails",
    [
        "benchmarks.contenders.onnx_loop.load",
        "benchmarks.measuring.measure.check_parity",
        "benchmarks.measuring.measure.time_rounds",
        "benchmarks.measuring.measure.trace_step",
    ],
)
def test_whatever_fails_no_process_is_left_beside_the_next_case(tiny, files, monkeypatch, fails):
    def fail(*_, **__):
        raise RuntimeError("out of memory")

    loaded = []
    monkeypatch.setattr("benchmarks.contenders.torch_tiled.load", lambda *_, **__: loaded.append(apart()) or loaded[0])
    monkeypatch.setattr(fails, fail)
    names = ("torch", "torch_tiled", "onnx")
    case = Case("tiny", ROWS, rounds=1, alone_rounds=0, contenders=names, traced=True)
    with pytest.raises(RuntimeError, match="out of memory") as raised:
        measure(case, names, files, tiny.model.config, device="cpu", threads=1, say=lambda _: None)
    assert not psutil.pid_exists(loaded[0].pid), "while the error is held, with the frames it came from"
    assert raised
