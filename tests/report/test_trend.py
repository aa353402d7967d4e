"""Trends of gated cases over saved runs: which runs a change lies between, how it is told, and where it is shown."""

import json

import example_history
import pytest
from report_runs import benchmark, gpu_machine, run, save

from gptloop.report import charts
from gptloop.report.answers import answers
from gptloop.report.compare import compare_cases
from gptloop.report.files import report_json
from gptloop.report.runs import newest_cases, read_runs
from gptloop.report.summary import summary_markdown
from gptloop.report.trend import find_trends
from gptloop.report.trend_words import trend_cells, trend_remarks, worse_text

CASE = "gpt2 8x1 onnx"
RUNS = 24


def case(seconds: float, torch_s: float = 2.0, **changes) -> list:
    return [
        benchmark("torch", (torch_s,) * 3, group="gpt2 8x1", **changes),
        benchmark("onnx", (seconds,) * 3, group="gpt2 8x1", **changes),
    ]


def history(folder, times_s, torch_s=None, **changes):
    """A run a day, and the frame of them all."""
    for day, seconds in enumerate(times_s, start=1):
        wobble = 1 + 0.001 * (day % 3)
        beside = (torch_s or [2.0] * len(times_s))[day - 1]
        content = run(
            *case(seconds * wobble, beside, **changes),
            at=f"2026-11-{day:02}T00:00:00+00:00",
            commit={"id": f"{day:040}"},
        )
        save(folder, content, f"m/{day:04}_run.json")
    return compare_cases(read_runs(folder))


STEP = [1.0] * 12 + [1.1] * 12


def test_a_step_names_the_runs_it_lies_between_and_its_size(tmp_path):
    (trend,) = find_trends(history(tmp_path, STEP), [CASE, "gpt2 9x9 onnx"], {})
    (change,) = trend.changes
    assert (change.before["run"], change.after["run"]) == ("m/0012_run.json", "m/0013_run.json")
    ((_, runs, size, before, after, control),) = trend_cells([trend])
    assert runs == "24"
    assert size == "+10.0 % [+9.9 % to +10.1 %]"
    assert before == "0000000000, 2026-11-12"
    assert after == "0000000000, 2026-11-13"
    assert control == "+0.0 %"


def test_the_pytorch_loop_that_changed_alike_stands_beside_it(tmp_path):
    frame = history(tmp_path, STEP, torch_s=[2.0] * 12 + [2.2] * 12)
    assert trend_cells(find_trends(frame, [CASE], {}))[0][-1] == "+10.0 %"


def test_a_change_in_how_runs_are_measured_is_told_beside_a_step_there_only(tmp_path):
    frame = history(tmp_path, STEP)
    notes = {"m/0013_run.json": "another clock", "m/0009_run.json": "elsewhere"}
    assert trend_remarks(find_trends(frame, [CASE], notes)) == [
        f"{CASE}: the way of measuring changed there, too: another clock."
    ]


def test_other_work_under_the_same_name_is_told_and_not_merged(tmp_path):
    history(tmp_path, STEP)
    save(tmp_path, run(*case(9.0, max_new_tokens=512), at="2026-10-01T00:00:00+00:00"), "m/0099_run.json")
    (trend,) = find_trends(compare_cases(read_runs(tmp_path)), [CASE], {})
    assert len(trend.history) == RUNS
    assert trend_remarks([trend]) == [f"{CASE}: 1 run measured other work under this name: no part of this history."]


def test_a_machine_has_trends_of_its_own(tmp_path):
    history(tmp_path, STEP)
    gpu = run(*case(0.1, device="cuda"), machine=gpu_machine(), at="2026-11-12T12:00:00+00:00")
    save(tmp_path, gpu, "m/0099_run.json")
    trends = find_trends(compare_cases(read_runs(tmp_path)), [CASE], {})
    assert sorted(len(trend.history) for trend in trends) == [1, RUNS]


@pytest.mark.parametrize(
    ("times_s", "answer"),
    [
        ([1.0] * 24, "No"),
        (STEP, "Yes"),
        ([1.1] * 12 + [1.0] * 12, "No"),
        ([1.0] * 4, "Too early to tell"),
    ],
    ids=["flat", "slower", "faster", "few"],
)
def test_did_it_get_worse_has_an_answer(tmp_path, times_s, answer):
    trends = find_trends(history(tmp_path, times_s), [CASE], {})
    assert worse_text(trends)[0] == answer


def test_a_case_with_few_runs_tells_how_many_are_needed(tmp_path):
    trends = find_trends(history(tmp_path, [1.0, 1.0, 1.2]), [CASE], {})
    assert trend_cells(trends)[0][2] == "too few runs, 12 are needed"
    assert "here are at most 3" in worse_text(trends)[1]
    assert worse_text([]) == ("Too early to tell", "no gated case has a history on this machine")


# The committed example


@pytest.fixture(scope="module")
def example():
    frame = compare_cases(read_runs(example_history.FOLDER))
    return frame, find_trends(frame, ["gpt2 1x1 onnx_int8", "gpt2 8x1 onnx_int8"], {})


def test_the_committed_example_is_what_its_maker_makes_and_says_that_it_is_synthetic():
    for name, content in example_history.runs().items():
        path = example_history.FOLDER / name
        assert path.read_text(encoding="utf-8") == example_history.text(content)
        assert json.loads(path.read_text())["synthetic"] is True
        assert "Synthetic example" in content["machine_info"]["gptloop"]["cpu"]


def test_the_change_point_of_the_committed_example_is_found_where_it_was_put(example):
    flat, stepped = example[1]
    assert flat.changes == []
    (change,) = stepped.changes
    assert change.change.first_after == example_history.STEP_AT
    assert change.change.low < 0.077 < change.change.high  # log 1.08


def test_the_history_chart_shades_the_change_with_its_size_and_commits(example):
    frame, trends = example
    figure = charts.history_figure(frame, {}, charts.contender_colours(frame), trends)
    one_row, prompts = figure.axes
    change = trends[1].changes[0]
    words = f"+8.0 %, {change.before['commit'][:7]}..{change.after['commit'][:7]}"
    assert [note.get_text() for note in prompts.texts] == [words]
    assert not one_row.texts
    (shaded,) = prompts.patches
    assert shaded.get_x() == example_history.STEP_AT - 1
    (committed,) = (example_history.FOLDER / "charts").glob("history-*.svg")
    assert words in committed.read_text(encoding="utf-8")
    assert committed.name in (example_history.FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_summary_and_the_json_hold_the_change(example):
    frame, trends = example
    compared = compare_cases(newest_cases(read_runs(example_history.FOLDER)))
    summary = summary_markdown(compared, trends=trends)
    assert "### Trend" in summary
    assert "**Did it get worse?** Yes" in summary
    content = json.loads(report_json(compared, trends))["trends"]
    assert [len(one["changes"]) for one in content] == [0, 1]
    assert content[1]["changes"][0]["effect"] == pytest.approx(0.08, abs=0.02)
    assert frame["run"].nunique() == example_history.RUNS


def test_the_answers_compare_the_same_precision_only(tmp_path):
    int8 = [benchmark("onnx_int8", (0.25,) * 3, precision="int8"), benchmark("ctranslate2_int8", (0.5,) * 3)]
    int8[1]["extra_info"]["precision"] = "int8"
    rivals = [benchmark("hf_generate", (4.0,) * 3), benchmark("openvino", (0.5,) * 3)]
    for one in (*int8, *rivals):
        one["group"] = "gpt2 8x1"
    save(tmp_path, run(*case(1.0), *int8, *rivals))
    found = {one.question: one for one in answers(compare_cases(newest_cases(read_runs(tmp_path))), [])}
    assert found["Is it faster than the PyTorch loop, and by how much?"].words == "Yes: 2.00x"
    whom = found["Than whom, in the same precision?"]
    assert whom.words == "Than 3 of 4 in every case"
    assert set(whom.grounds) == {
        "2.00x: PyTorch loop, fp32",
        "4.00x: Hugging Face generate, fp32",
        "0.50x: OpenVINO, our file, fp32",
        "2.00x: CTranslate2, int8",
    }


def test_a_slower_loop_is_not_called_faster(tmp_path):
    save(tmp_path, run(*case(4.0)))
    assert answers(compare_cases(newest_cases(read_runs(tmp_path))), [])[0].words == "No: 0.50x"
