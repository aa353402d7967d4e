"""`python -m gptloop.report --baseline`: verdicts, exit codes, and what becomes a baseline."""

import json
import subprocess

import numpy as np
import pytest
from report_runs import benchmark, gpu_machine, machine, run, save

from gptloop.report.command import main

CASES = ("gpt2 8x1", "gpt2 1x1")
BUDGETS = "budget = 0.02\nresolution = 0.10\ndrift = 0.15\npaired_floor = 0.04\nstored_floor = 0.10\n" + "".join(
    f'[cases."{case} onnx"]\n' for case in CASES
)
LATER = "2026-11-23T00:00:00+00:00"
SPREAD = np.array([1.0, 1.01, 0.99, 1.005, 0.995])


def suite(slower: float = 1.0, *, torch: float = 1.0, cases=CASES, spread=SPREAD, at=LATER, **changes):
    """A run of the gated cases; the ONNX loop takes 1 s times `slower`."""
    of_case = changes.pop("of_case", {})
    benchmarks = []
    for case in cases:
        where = {"size": case.split()[0], "workload": case.split()[1], "group": case, **of_case}
        benchmarks.append(benchmark("torch", tuple(2.0 * torch * spread), **where))
        benchmarks.append(benchmark("onnx", tuple(slower * spread), **where))
    return run(*benchmarks, at=at, **changes)


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Runs the report on a folder whose older run is the baseline, if there is a newer one."""
    for name in ("render_charts", "render_history"):  # not what is tested, and slow
        monkeypatch.setattr(f"gptloop.report.files.{name}", lambda *_: {})
    folder = tmp_path / "reports"
    folder.mkdir()
    (tmp_path / "budgets.toml").write_text(BUDGETS)
    baseline = save(folder, suite(at="2026-11-22T00:00:00+00:00"), "m/0001_base.json")

    def call(newer=None, *options: str, against=baseline) -> int:
        if newer is not None:
            save(folder, newer, "m/0002_new.json")
        where = ["--baseline", str(against), "--budgets", str(tmp_path / "budgets.toml")]
        return main([str(folder), *where, *options])

    call.folder, call.baseline = folder, baseline
    return call


def verdicts(report) -> dict[str, str]:
    content = json.loads((report.folder / "verdicts.json").read_text())
    assert content["gptloop_kind"] == "verdicts"
    return {one["case"]: one["verdict"] for one in content["verdicts"]}


GATE = "--fail-on-regression"


def test_a_run_compared_with_itself_is_unchanged(report):
    assert report(None, GATE) == 0
    assert set(verdicts(report).values()) == {"unchanged"}


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
    assert set(verdicts(report).values()) == {value}
    summary = (report.folder / "summary.md").read_text()
    assert f"| {value} " in summary
    assert "## Regression gate" in summary


def test_without_the_option_verdicts_do_not_change_the_exit_code(report):
    assert report(suite(1.3)) == 0
    assert set(verdicts(report).values()) == {"regression"}


def test_a_case_that_was_not_measured_is_missing_and_no_pass(report):
    assert report(suite(cases=CASES[:1]), GATE) == 2
    assert verdicts(report) == {"gpt2 8x1 onnx": "unchanged", "gpt2 1x1 onnx": "missing"}


def test_a_regression_outranks_a_missing_case(report):
    assert report(suite(1.3, cases=CASES[:1]), GATE) == 1


def test_a_run_from_another_machine_informs_and_never_gates(report):
    other = suite(1.3, machine=machine(cpu="another CPU"))
    assert report(other, GATE) == 2
    assert set(verdicts(report).values()) == {"unstable"}
    assert "Not gated: the baseline is from another machine" in (report.folder / "summary.md").read_text()
    assert report(other) == 0


def test_an_older_run_of_the_right_machine_does_not_pass_in_place_of_the_newest(report):
    newest = suite(at="2026-12-01T00:00:00+00:00", machine=gpu_machine(), of_case={"device": "cuda"})
    save(report.folder, newest, "gpu/0001_new.json")
    assert report(suite(), GATE) == 2


# What becomes a baseline


@pytest.fixture
def stored(tmp_path):
    return tmp_path / "baseline.json"


def calibrate(report, spread: float) -> None:
    """Save 20 A/A pairs in which a process shifts its times by this much."""
    rng = np.random.default_rng(0)
    pairs = [
        {
            "cases": {f"{case} onnx": {"base": [shift], "change": [shift]} for case in CASES},
            "control_s": [2.0 * shift],
        }
        for shift in np.exp(rng.normal(0, spread, 20))
    ]
    settings = {"calibration_pairs": 20, "smoke": False}
    proof = {"gptloop_kind": "proof", "machine": machine(), "settings": settings, "pairs": pairs}
    save(report.folder, proof, "proof-m.json")


def test_an_updated_baseline_holds_the_floors_of_its_machine_and_is_a_baseline(report, stored):
    calibrate(report, 0.002)
    assert report(suite(), "--update-baseline", against=stored) == 0
    content = json.loads(stored.read_text())
    assert content["gptloop_kind"] == "baseline"
    assert set(content["noise_floors"]) == {"gpt2 8x1 onnx", "gpt2 1x1 onnx", "control"}
    (report.folder / "proof-m.json").unlink()
    assert report(suite(1.05), GATE, against=stored) == 1  # below the assumed floor, above the calibrated one
    assert report(suite(1.05), GATE) == 0  # the plain run knows no floor, and 5 % is within the assumed one


def test_a_plain_run_takes_the_floors_of_a_calibration_in_the_folder(report):
    calibrate(report, 0.002)
    assert report(suite(1.05), GATE) == 1


def _refused(report, stored, capsys) -> str:
    capsys.readouterr()
    assert report(None, "--update-baseline", against=stored) == 2
    assert not stored.exists()
    assert not (report.folder / "summary.md").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("newer", "words"),
    [
        (suite(commit={"dirty": True}), "dirty checkout"),
        (suite(spread=np.array([1.0, 1.6, 0.6, 1.5, 0.7])), "unstable run: the time of 'gpt2 8x1 onnx' is known to"),
        (suite(cases=CASES[:1]), "no baseline without the gated case 'gpt2 1x1 onnx'"),
        (suite(spread=np.array([1.0])), "has 1 round, at least 2"),
    ],
)
def test_a_dirty_or_unstable_run_is_no_baseline(report, stored, capsys, newer, words):
    save(report.folder, newer, "m/0002_new.json")
    assert words in _refused(report, stored, capsys)


def test_a_dirty_checkout_makes_no_baseline(report, stored, capsys, tmp_path):
    """The report's own folder may be changed: the report writes into it."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    source, chart = tmp_path / "source.py", report.folder / "chart.svg"
    for file in (source, chart):
        file.write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], check=True)
    chart.write_text("2")
    source.write_text("2")
    assert "the checkout is dirty (source.py)" in _refused(report, stored, capsys)
    source.write_text("1")
    assert report(None, "--update-baseline", against=stored) == 0


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
    older = suite()
    older["benchmarks"][0]["stats"]["data"] = [2.0, 2.0]
    assert report(suite(), GATE, against=save(tmp_path / "elsewhere", older)) == 2
    assert verdicts(report) == {"gpt2 8x1 onnx": "missing", "gpt2 1x1 onnx": "unchanged"}
    assert "the baseline has 5 rounds of it, and 2 of the PyTorch loop" in capsys.readouterr().out


def test_a_baseline_without_floors_of_its_own_takes_a_later_calibration(report, monkeypatch):
    content = {"gptloop_kind": "baseline", "noise_floors": {}} | json.loads(report.baseline.read_text())
    against = report.folder / "baseline.json"
    against.write_text(json.dumps(content))
    floors = dict.fromkeys([f"{case} onnx" for case in CASES] + ["control"], 0.006)
    monkeypatch.setattr("gptloop.report.baseline.machine_floors", lambda *_: floors)
    assert report(suite(1.05), GATE, against=against) == 1  # 10 % would be assumed


def test_without_git_no_baseline_is_made(report, monkeypatch, capsys):
    def no_git(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert report(suite(), "--update-baseline") == 2
    assert "git, which tells whether the checkout is clean: No such file" in capsys.readouterr().err
