"""Verdicts, their edges, exit codes and words; budgets as files."""

import json

import numpy as np
import pytest

from gptloop.report.budgets import read_budgets
from gptloop.report.errors import ReportError
from gptloop.report.statistics import Estimate, paired_estimate
from gptloop.report.verdict_text import verdicts_table, verdicts_text
from gptloop.report.verdicts import (
    Floor,
    Quantity,
    Value,
    Verdict,
    exit_code,
    judge,
    missing,
    verdict,
)

BUDGETS = """
budget = 0.02
resolution = 0.10
drift = 0.15
paired_floor = 0.04
stored_floor = 0.10
[cases."gpt2 8x1 onnx"]
[cases."gpt2 1x1 onnx"]
budget = 0.05
"""


def percent(effect, low, high) -> Estimate:
    return Estimate(*np.log1p(np.array([effect, low, high]) / 100))


@pytest.mark.parametrize(
    ("estimate", "value"),
    [
        (percent(0, 0, 0), Value.UNCHANGED),
        (percent(8, 6, 10), Value.REGRESSION),
        (percent(8, 1.9, 14), Value.UNSTABLE),  # above the floor, but the interval does not exclude the budget
        (percent(3, 2.1, 4), Value.UNCHANGED),  # the interval excludes the budget, but the effect is in the noise
        (percent(5, 1.9, 7), Value.UNCHANGED),  # sure to within 3 %, but not that it is over the budget
        (percent(60, 20, 100), Value.REGRESSION),  # wide, and yet no doubt
        (percent(-8, -10, -6), Value.IMPROVED),
        (percent(-8, -18, 1), Value.UNSTABLE),
        (percent(-3, -3.5, -2.5), Value.UNCHANGED),
        (percent(0, -6, 6), Value.UNSTABLE),
    ],
)
def test_a_regression_needs_an_effect_above_noise_and_an_interval_above_the_budget(estimate, value):
    assert judge(estimate, budget=0.02, floor=np.log1p(0.04), resolution=0.10) is value


@pytest.mark.parametrize(("effect", "value"), [(0, Value.UNSTABLE), (40, Value.REGRESSION), (-40, Value.IMPROVED)])
def test_a_machine_too_noisy_to_see_a_slowdown_passes_nothing(effect, value):
    estimate = percent(effect, effect - 1, effect + 1)
    assert judge(estimate, budget=0.02, floor=np.log1p(0.12), resolution=0.10) is value


@pytest.mark.parametrize(("slower", "least"), [(0.0, 0), (0.05, 0.95), (0.10, 1.0)])
def test_power_and_silence_on_simulated_runs(slower, least):
    """5 pairs whose processes differ by 1 %, floor and budget of 2 %: the two that a quiet machine has."""
    effects = np.random.default_rng(0).normal(np.log1p(slower), 0.01, (1000, 5))
    limits = {"budget": 0.02, "floor": np.log1p(0.02), "resolution": 0.10}
    verdicts = [judge(Estimate(*one), **limits) for one in zip(*paired_estimate(effects), strict=True)]
    share = np.mean([value is Value.REGRESSION for value in verdicts])
    assert share >= least if slower else share == 0


def of(value: Value) -> Verdict:
    return Verdict("gpt2 8x1 onnx", value, "a reason", 0.02)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([Value.UNCHANGED, Value.IMPROVED], 0),
        ([Value.UNCHANGED, Value.MISSING], 2),
        ([Value.UNSTABLE, Value.IMPROVED], 2),
        ([Value.UNSTABLE, Value.REGRESSION, Value.MISSING], 1),
        ([], 2),
    ],
)
def test_a_regression_outranks_what_cannot_be_judged_and_nothing_judged_is_no_pass(values, code):
    assert exit_code(map(of, values)) == code


@pytest.fixture
def budgets(tmp_path):
    (tmp_path / "b.toml").write_text(BUDGETS)
    return read_budgets(tmp_path / "b.toml")


def test_trouble_makes_any_effect_unstable(budgets):
    one = verdict("gpt2 8x1 onnx", percent(50, 49, 51), budgets, Floor(0.01, True), "the machine was disturbed")
    assert (one.value, one.reason) == (Value.UNSTABLE, "the machine was disturbed")


def test_a_stranger_understands_a_regression(budgets):
    slow = verdict("gpt2 8x1 onnx", percent(8.3, 6.1, 10.2), budgets, Floor(np.log1p(0.013), True), base_s=1.0)
    gone = missing("gpt2 1x1 onnx", 0.05, "the run did not measure it")
    text = "\n".join([verdicts_text([slow, gone]), verdicts_table([slow, gone])])
    assert "The gate fails: 1 gated case slower than allowed (gpt2 8x1 onnx)" in text
    assert "- **regression**, gpt2 8x1 onnx: +8.3 % time (95 % interval +6.1 % to +10.2 %)" in text
    assert "budget of 2.0 %" in text
    assert "1.3 % calibrated noise floor" in text
    assert "- **missing**, gpt2 1x1 onnx: the run did not measure it" in text


def test_a_reason_that_cases_share_is_said_once():
    text = verdicts_table([missing(case, 0.02, "the run did not measure it") for case in ("a", "b")])
    assert "- **missing**, a, b: the run did not measure it" in text


def test_an_assumed_floor_is_said_to_be_one(budgets):
    table = verdicts_table([verdict("gpt2 8x1 onnx", percent(0, -1, 1), budgets, Floor(np.log1p(0.04), False))])
    assert "4.0 % (assumed)" in table


@pytest.mark.parametrize(
    ("floor", "processes", "words"),
    [
        (
            0.15,
            5,
            "11 processes of each side bring it down (python -m benchmarks.change --processes 11; this is with 5)",
        ),
        (0.52, 1, "20 processes of each side bring it down"),
        (0.30, 5, "More processes do not bring it down in reasonable time (38 of each side would): pin the cores"),
    ],
)
def test_a_floor_above_the_resolution_says_what_brings_it_down(budgets, floor, processes, words):
    """It falls with the square root of the number of processes; log(1.1) is the resolution's."""
    floor = Floor(np.log1p(floor), True, processes)
    one = verdict("gpt2 8x1 onnx", percent(0, -1, 1), budgets, floor)
    assert one.value is Value.UNSTABLE
    assert "above the resolution of 10.0 %" in one.reason
    assert words in one.reason
    assert "pin the cores" in one.reason


def test_time_and_memory_have_a_table_each_and_the_sentence_tells_them_apart(budgets):
    slow = verdict("gpt2 8x1 onnx", percent(8, 6, 10), budgets, Floor(0.01, True))
    memory = {"quantity": Quantity.MEMORY, "base_bytes": 1e9, "change_bytes": 1.2e9}
    heavy = Verdict("gpt2 1x1 onnx", Value.REGRESSION, "a reason", 0.02, **memory)
    text = "\n".join([verdicts_text([slow, heavy]), verdicts_table([slow, heavy])])
    assert "1 gated case slower than allowed (gpt2 8x1 onnx); 1 gated case with more memory than allowed" in text
    assert "| change of time |" in text
    assert "| change of peak memory |" in text
    assert "| 1.00 GB | 1.20 GB |" in text
    assert verdicts_text([]) == "**Nothing was judged; that is not a pass.**"


def test_a_verdict_for_machines_is_json_in_fractions_of_time(budgets):
    floor = Floor(np.log1p(0.04), True)
    one = verdict("gpt2 8x1 onnx", percent(10, 9, 11), budgets, floor, base_s=1.0, change_s=1.1)
    record = json.loads(json.dumps(one.to_json()))
    assert record["verdict"] == "regression"
    assert [record["effect"], *record["interval"]] == pytest.approx([0.10, 0.09, 0.11])
    assert record["noise_floor"] == pytest.approx(0.04)


# Budgets


def test_memory_is_gated_by_two_numbers_of_its_own(tmp_path):
    path = tmp_path / "b.toml"
    path.write_text("memory_budget = 0.02\nmemory_floor = 0.01\n" + BUDGETS + "memory_budget = 0.2\n")
    gated = read_budgets(path)
    assert dict(gated.memory) == {"gpt2 8x1 onnx": 0.02, "gpt2 1x1 onnx": 0.2}
    assert gated.memory_floor == 0.01


def test_without_them_memory_is_not_gated(budgets):
    assert budgets.memory == {}


def test_a_case_without_a_budget_has_the_default(budgets):
    assert dict(budgets.cases) == {"gpt2 8x1 onnx": 0.02, "gpt2 1x1 onnx": 0.05}
    assert (budgets.drift, budgets.paired_floor, budgets.stored_floor) == (0.15, 0.04, 0.10)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("budget = 0.02", "budget = 2", "budget is 2, expected a fraction"),
        ("budget = 0.05", 'budget = "5 %"', "budget is '5 %', expected a fraction"),
        ("budget = 0.05", "bugdet = 0.05", "unknown key 'bugdet', expected budget"),
        ("drift = 0.15", "", "drift is None"),
        ("drift = 0.15", "drift = 0.15\nmemory_budget = 0.02", "memory_floor is None"),
        ("budget = 0.05", "memory_budget = 0.05", "unknown key 'memory_budget', expected budget"),
        ('[cases."gpt2 8x1 onnx"]', '[cases."gpt2"]', "cases has 'gpt2'"),
        ("[cases", "[[", "not valid TOML"),
        (BUDGETS[BUDGETS.index("[cases") :], "", "no gated case"),
    ],
)
def test_a_wrong_budget_file_is_refused_with_its_key_and_value(tmp_path, before, after, words):
    path = tmp_path / "b.toml"
    path.write_text(BUDGETS.replace(before, after, 1))
    with pytest.raises(ReportError, match=r"b\.toml") as raised:
        read_budgets(path)
    assert words in str(raised.value)


def test_a_missing_budget_file_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere\.toml: cannot be read"):
        read_budgets(tmp_path / "nowhere.toml")
