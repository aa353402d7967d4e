"""What the gate's command does beyond one measurement: again, memory, explanations, and every form of its result."""

import json
import xml.etree.ElementTree as ET

import pytest
from given_pairs import BUDGETS, CASE, pairs

from benchmarks.command.checkout import ROOT
from benchmarks.gate import change
from gptloop.report.verdicts import FEWEST_PROCESSES, MOST_PROCESSES

needs_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="a source tree without its git repository")

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
