"""`python -m gptloop.report --baseline`: verdicts, exit codes, and what is refused."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from gated import CASES, GATE, LATER, calibrate, suite, verdicts
from report_runs import gpu_machine, machine, save

from gptloop.report.command import main


def _the_baseline_itself(report):
    pass


def _a_copy_of_its_rounds(report):
    """Under another name and date: the rounds tell."""
    copy = json.loads(report.baseline.read_text()) | {"datetime": LATER}
    save(report.folder, copy, "m/0002_new.json")


def _a_run_that_is_older(report):
    save(report.folder, suite(1.001, at="2026-11-21T00:00:00+00:00"), "m/0002_new.json")
    report.baseline.rename(report.baseline.parents[2] / "elsewhere.json")


@pytest.mark.parametrize("put", [_the_baseline_itself, _a_copy_of_its_rounds, _a_run_that_is_older])
def test_where_nothing_new_was_measured_nothing_is_judged(report, capsys, put):
    put(report)
    against = report.baseline if report.baseline.exists() else report.baseline.parents[2] / "elsewhere.json"
    assert report(None, GATE, against=against) == 2
    assert set(verdicts(report.folder).values()) == {"missing"}
    assert "nothing new was measured" in capsys.readouterr().out
    assert not json.loads((report.folder / "verdicts.json").read_text())["measure_again"]


def test_a_run_that_is_unstable_is_to_be_measured_again(report):
    assert report(suite(1.3, torch=1.3), GATE) == 2
    assert json.loads((report.folder / "verdicts.json").read_text())["measure_again"]


def test_a_floor_above_the_resolution_says_what_brings_it_down(report, capsys):
    calibrate(report.folder, 0.06)
    assert report(suite(), GATE) == 2
    said = capsys.readouterr().out
    assert "calibrated noise floor is above the resolution of 10.0 %" in said
    assert re.search(r"\d+ (processes )?of each side (bring it down|would)", said)
    assert "pin the cores" in said


def test_a_regression_names_the_command_that_explains_it(report, capsys):
    assert report(suite(1.3), GATE) == 1
    assert "`python -m benchmarks.change --base 0123456789`" in capsys.readouterr().out


# Memory


def test_peak_memory_is_gated_where_the_budgets_say_so(report, tmp_path):
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("memory_budget = 0.02\nmemory_floor = 0.01\n" + budgets.read_text())
    heavier = suite(of_case={"peak_memory_bytes": 1_300_000_000})  # 1,234,000,000 in the baseline
    assert report(heavier, GATE) == 1
    judged = json.loads((report.folder / "verdicts.json").read_text())["verdicts"]
    assert {(one["quantity"], one["verdict"]) for one in judged} == {
        ("time", "unchanged"),
        ("peak memory", "regression"),
    }
    assert judged[-1]["effect"] == pytest.approx(1300 / 1234 - 1)
    assert (judged[-1]["base_bytes"], judged[-1]["change_bytes"]) == (1_234_000_000, 1_300_000_000)
    page = (report.folder / "report.html").read_text()
    assert "peak memory" in page
    assert report(suite(), GATE) == 0
    assert report(suite(of_case={"peak_memory_bytes": None}), GATE) == 2


# JUnit


def test_junit_is_written_where_it_is_asked_for(report, tmp_path):
    junit = tmp_path / "gate.xml"
    assert report(suite(1.3, cases=CASES[:1]), GATE, "--junit", str(junit)) == 1
    root = ET.parse(junit).getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("2", "1", "1")


@pytest.mark.parametrize("content", ["notes", "<testsuites name='pytest tests'/>"])
def test_junit_of_somebody_else_is_not_replaced(report, tmp_path, capsys, content):
    junit = tmp_path / "gate.xml"
    junit.write_text(content)
    assert report(suite(), GATE, "--junit", str(junit)) == 2
    assert "gate.xml: stands there already" in capsys.readouterr().err
    assert junit.read_text() == content


def test_a_report_that_cannot_be_made_is_an_error_in_junit(report, tmp_path):
    junit = tmp_path / "gate.xml"
    assert report(suite(), GATE, "--junit", str(junit), against=tmp_path / "gone.json") == 2
    (case,) = ET.parse(junit).getroot().iter("testcase")
    assert "gone.json: cannot be read" in case.find("error").get("message")


@pytest.mark.parametrize(
    ("newer", "value", "code"),
    [
        (suite(1.02), "unchanged", 0),
        (suite(1.3), "regression", 1),
        (suite(0.7), "improved", 0),
        (suite(1.3, torch=1.3), "unstable", 2),  # the machine has slowed down
        (suite(1.0, torch=0.7), "unstable", 2),  # it is faster, which might hide a slower loop
        (suite(spread=np.array([1.0, 1.6, 0.6, 1.5, 0.7])), "unstable", 2),
        (suite(of_case={"max_new_tokens": 16}), "missing", 2),  # other work under the same name
        (suite(of_case={"precision": "int8"}), "missing", 2),
        (suite(spread=np.array([1.0])), "missing", 2),
    ],
)
def test_the_newest_run_is_judged_and_the_verdict_is_the_exit_code(report, newer, value, code):
    assert report(newer, GATE) == code
    assert set(verdicts(report.folder).values()) == {value}
    summary = (report.folder / "summary.md").read_text()
    assert f"| {value} " in summary
    assert "## Regression gate" in summary


def test_without_the_option_verdicts_do_not_change_the_exit_code(report):
    assert report(suite(1.3)) == 0
    assert set(verdicts(report.folder).values()) == {"regression"}


def test_a_case_that_was_not_measured_is_missing_and_no_pass(report):
    assert report(suite(cases=CASES[:1]), GATE) == 2
    assert verdicts(report.folder) == {"gpt2 8x1 onnx": "unchanged", "gpt2 1x1 onnx": "missing"}


def test_a_regression_outranks_a_missing_case(report):
    assert report(suite(1.3, cases=CASES[:1]), GATE) == 1


def test_a_run_from_another_machine_informs_and_never_gates(report):
    other = suite(1.3, machine=machine(cpu="another CPU"))
    assert report(other, GATE) == 2
    assert set(verdicts(report.folder).values()) == {"unstable"}
    assert "Not gated: the baseline is from another machine" in (report.folder / "summary.md").read_text()
    assert report(other) == 0


def test_an_older_run_of_the_right_machine_does_not_pass_in_place_of_the_newest(report):
    newest = suite(at="2026-12-01T00:00:00+00:00", machine=gpu_machine(), of_case={"device": "cuda"})
    save(report.folder, newest, "gpu/0001_new.json")
    assert report(suite(), GATE) == 2


def test_a_plain_run_takes_the_floors_of_a_calibration_in_the_folder(report):
    calibrate(report.folder, 0.002)
    assert report(suite(1.05), GATE) == 1


# Input errors


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "is not a JSON object"),
        ('{"gptloop_kind": "proof"}', "baseline.json"),
        (json.dumps({**suite(), "gptloop_kind": "verdicts"}), "neither a saved run nor a baseline"),
        (json.dumps({**suite(), "gptloop_kind": "baseline", "noise_floors": {"gpt2 8x1 onnx": -1}}), "is -1"),
        (json.dumps({**suite(), "gptloop_kind": "baseline", "noise_floors": {"gpt2 8x1 onnx": "x"}}), "is 'x'"),
    ],
)
@pytest.mark.parametrize("options", [[], [GATE]])
def test_a_damaged_baseline_is_an_input_error(report, stored, capsys, content, words, options):
    stored.write_text(content)
    assert report(None, *options, against=stored) == 2
    assert words in capsys.readouterr().err


def test_a_baseline_that_is_not_there_is_an_input_error(report, stored, capsys):
    assert report(None, against=stored) == 2
    assert "baseline.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("option", [GATE, "--update-baseline"])
def test_options_that_need_a_baseline_say_so(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as raised:
        main([str(tmp_path), option])
    assert raised.value.code == 2
    assert "need --baseline FILE" in capsys.readouterr().err


def test_a_control_of_other_rounds_is_named_with_its_side(report, tmp_path, capsys):
    older = suite(0.999, at="2026-11-22T00:00:00+00:00")
    older["benchmarks"][0]["stats"]["data"] = [2.0, 2.0]
    assert report(suite(), GATE, against=save(tmp_path / "elsewhere", older)) == 2
    assert verdicts(report.folder) == {"gpt2 8x1 onnx": "missing", "gpt2 1x1 onnx": "unchanged"}
    assert "the baseline has 5 rounds of it, and 2 of the PyTorch loop" in capsys.readouterr().out


def test_a_baseline_without_floors_of_its_own_takes_a_later_calibration(report, monkeypatch):
    content = {"gptloop_kind": "baseline", "noise_floors": {}} | json.loads(report.baseline.read_text())
    against = report.folder / "baseline.json"
    against.write_text(json.dumps(content))
    floors = dict.fromkeys([f"{case} onnx" for case in CASES] + ["control"], 0.006)
    monkeypatch.setattr("gptloop.report.baseline.machine_floors", lambda *_: floors)
    assert report(suite(1.05), GATE, against=against) == 1  # 10 % would be assumed


@pytest.mark.parametrize("slower", [1.0, 1.3])
def test_a_budget_on_the_control_itself_is_judged_as_its_drift(report, tmp_path, slower):
    budgets = tmp_path / "budgets.toml"
    budgets.write_text(budgets.read_text() + '[cases."gpt2 8x1 torch"]\n')
    assert report(suite(torch=slower), GATE) == (0 if slower == 1.0 else 2)
    assert verdicts(report.folder)["gpt2 8x1 torch"] == ("unchanged" if slower == 1.0 else "unstable")


def test_the_run_that_was_judged_is_named_first(report, capsys):
    report(suite())
    section = capsys.readouterr().out.split("\n\n")[1:3]
    assert section[0] == "## Regression gate"
    assert section[1].startswith("Judged: m/0002_new.json (2026-11-23 00:00 UTC, commit 0123456789), against the base")


@pytest.mark.parametrize("name", ["m/0003_future.json", "m/0001_again.json"])
def test_a_run_that_pushed_itself_in_front_is_not_judged(report, capsys, name):
    """A slow run is the newest; a fast one claims to be: by a date to come, or against its number."""
    date = "2099-01-01" if "future" in name else "2026-11-24"
    save(report.folder, suite(at=f"{date}T00:00:00+00:00"), name)
    assert report(suite(1.5), GATE) == 2
    assert "nobody knows which run is newest" in capsys.readouterr().err
    assert not (report.folder / "verdicts.json").exists()
