"""Calibrations as files: whose floors are found, and how damaged ones are refused."""

import json

import numpy as np
import pytest
from report_runs import gpu_machine, machine

from gptloop.report.calibration import CONTROL, find_calibration
from gptloop.report.errors import ReportError
from gptloop.report.machine import machine_of


def proof(count: int = 20, **changes):
    """A/A pairs whose effects spread by 1 %."""
    effects = np.exp(np.random.default_rng(0).normal(0, 0.01, count))
    return {
        "gptloop_kind": "proof",
        "machine": machine(),
        "settings": {"calibration_pairs": 20, "smoke": False},
        "pairs": [
            {"cases": {"gpt2 8x1 onnx": {"base": [1.0, 1.0], "change": [x, x]}}, "control_s": [2.0 * x]}
            for x in effects
        ],
        **changes,
    }


def save(folder, content, name="proof-x.json"):
    (folder / name).write_text(json.dumps(content))


def test_the_floors_of_this_machine_are_found_and_shrink_with_processes(tmp_path):
    save(tmp_path, proof(40))
    save(tmp_path, proof(machine=gpu_machine()), "proof-other.json")
    calibration = find_calibration(tmp_path, machine_of(machine()))
    assert len(calibration.pairs) == 20  # the pairs that are held apart for the test calibrate nothing
    few, many = (calibration.paired_floor("gpt2 8x1 onnx", processes=n, cases=4, assumed=0.5) for n in (5, 20))
    assert few.calibrated
    assert few.effect == pytest.approx(2 * many.effect)
    assert not calibration.paired_floor("another case onnx", processes=5, cases=4, assumed=0.5).calibrated
    assert set(calibration.stored_floors(["gpt2 8x1 onnx"])) == {"gpt2 8x1 onnx", CONTROL}


def test_the_floor_of_memory_is_calibrated_by_peaks_of_its_own(tmp_path):
    peaks = [{"gpt2 8x1 onnx": {"base": 1_000_000, "change": 1_000_000 + 1_000 * (-1) ** i}} for i in range(10)]
    save(tmp_path, proof(peaks=peaks))
    calibration = find_calibration(tmp_path, machine_of(machine()))
    floor = calibration.memory_floor("gpt2 8x1 onnx", processes=4, cases=4, assumed=0.5)
    assert floor.calibrated
    assert floor.effect == pytest.approx(0.0018, abs=0.0001)  # a spread of 0.001, over 2, times t of 10 at 0.9975
    assert not calibration.memory_floor("another case onnx", processes=4, cases=4, assumed=0.5).calibrated


@pytest.mark.parametrize(
    "content",
    [proof(19), proof(machine=gpu_machine()), proof(settings={"calibration_pairs": 20, "smoke": True})],
    ids=["too few pairs", "another machine", "tiny models"],
)
def test_what_calibrates_nothing_is_passed_over(tmp_path, content):
    save(tmp_path, content)
    assert find_calibration(tmp_path, machine_of(machine())) is None


def pair(base, change):
    return {"cases": {"c": {"base": base, "change": change}}, "control_s": [1.0]}


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {}},
        {"pairs": {}},
        {"pairs": [{}] * 20},
        {"pairs": [{"cases": [], "control_s": [1.0]}] * 20},
        {"pairs": [pair([1.0], [1.0, 2.0])] * 20},
        {"pairs": [pair([1.0], [0.0])] * 20},
        {"pairs": [pair([1.0], ["x"])] * 20},
        {"peaks": [{"c": {"base": 1}}]},
        {"peaks": [{"c": {"base": 1, "change": 0}}]},
        {"peaks": "x"},
    ],
)
def test_a_damaged_calibration_is_named(tmp_path, changes):
    save(tmp_path, proof(**changes))
    with pytest.raises(ReportError, match=r"proof-x\.json"):
        find_calibration(tmp_path, machine_of(machine()))
