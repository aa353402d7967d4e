"""The history chart: all runs of one machine."""

import pytest
from report_runs import benchmark, machine, pair, run, save, words

from gptloop.report import charts
from gptloop.report.compare import compare_cases
from gptloop.report.runs import read_runs


def drawn(frame, notes=None, trends=()):
    """The panels that show something."""
    axes = charts.history_figure(frame, notes or {}, charts.contender_colours(frame), trends).axes
    return [one for one in axes if one.axison]


def history(folder) -> list:
    return drawn(compare_cases(read_runs(folder)))


def points(axes) -> list[tuple[list[float], list[float]]]:
    """Places and values of each line with markers."""
    return [(list(c[0].get_xdata()), list(c[0].get_ydata())) for c in axes.containers]


def test_a_workload_is_a_panel_and_a_contender_a_line_of_one_colour(tmp_path):
    save(tmp_path, run(*pair(), *pair(workload="1x64")))
    one, other = history(tmp_path)
    assert [one.get_title(loc="left"), other.get_title(loc="left")] == [
        "gpt2, 8 prompts",
        "gpt2, 64 candidates of one prompt",
    ]
    for axes in (one, other):
        assert [ys for _, ys in points(axes)] == [[0.0], [0.0]]
        (first, second) = (xs[0] for xs, _ in points(axes))
        assert first != second, "beside each other, not over each other"
    colours = [[c[0].get_color() for c in axes.containers] for axes in (one, other)]
    assert colours[0] == colours[1]
    assert colours[0][0] != colours[0][1]


def test_runs_stand_in_order_of_date_by_short_commit_and_dirty_ones_are_marked(tmp_path):
    slower = [benchmark("torch", (2.2, 2.2, 2.2)), benchmark("onnx", (1.65, 1.65, 1.65))]
    commit = {"id": "fedcba9876543210", "dirty": True}
    save(tmp_path, run(*slower, at="2026-11-24T00:00:00+00:00", commit=commit), "m/0001_late.json")
    save(tmp_path, run(*pair(), at="2026-11-22T00:00:00+00:00"), "m/0002_early.json")
    (axes,) = history(tmp_path)
    torch, onnx = (ys for _, ys in points(axes))
    assert torch == [0.0, 0.0]
    assert onnx == pytest.approx([-0.2, 0.2]), "1.1 s and 1.65 s against their median of 1.375 s"
    labels = dict(zip(axes.get_xticks(), (label.get_text() for label in axes.get_xticklabels()), strict=True))
    assert labels == {0: "0123456\n2026-11-22", 1: "fedcba9*\n2026-11-24"}


def test_another_machine_has_a_history_of_its_own(tmp_path):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    save(tmp_path, run(*pair(), machine=machine(threads=4), at="2026-11-23T00:00:00+00:00"), "m/0002_run.json")
    frame = compare_cases(read_runs(tmp_path))
    files = charts.render_history(frame, {})
    assert len(files) == 4
    for fingerprint, cases in frame.groupby("fingerprint"):
        (axes,) = drawn(cases)
        assert [len(xs) for xs, _ in points(axes)] == [1, 1], fingerprint


@pytest.mark.parametrize("change", [{"prompt_len": 512}, {"weights": "pretrained"}, {"temperature": 0.0}], ids=str)
def test_other_work_under_the_same_name_is_another_panel(tmp_path, change):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    save(tmp_path, run(*pair(**change), at="2026-11-23T00:00:00+00:00"), "m/0002_run.json")
    panels = history(tmp_path)
    assert [[len(xs) for xs, _ in points(axes)] for axes in panels] == [[1, 1], [1, 1]]
    assert panels[0].get_title(loc="left") != panels[1].get_title(loc="left") or "temperature" in change


def test_the_newest_of_many_runs_is_named(tmp_path):
    for day in range(1, 31):
        content = run(*pair(), at=f"2026-11-{day:02}T00:00:00+00:00", commit={"id": f"{day:010}{day:030}"})
        save(tmp_path, content, f"m/{day:04}_run.json")
    (axes,) = history(tmp_path)
    assert len(axes.get_xticks()) <= 12
    assert axes.get_xticklabels()[0].get_text().endswith("2026-11-30")
    assert "commit 0000000001 to 0000000030 (30 commits)" in " ".join(axes.figure.get_supxlabel().split())


def test_a_line_marks_from_where_runs_were_measured_in_another_way(tmp_path):
    for day in (1, 2, 3):
        save(tmp_path, run(*pair(), at=f"2026-11-0{day}T00:00:00+00:00"), f"m/000{day}_run.json")
    frame = compare_cases(read_runs(tmp_path))
    notes = {
        "m/0003_run.json": "the third",
        "m/0002_run.json": "the second",
        "other/0001_run.json": "another machine's",
    }
    (axes,) = drawn(frame, notes)
    assert [(text.get_text(), text.xy[0]) for text in axes.texts] == [("1", 0.5), ("2", 1.5)]
    below = axes.figure.get_supxlabel()
    assert "1: the second | 2: the third" in below
    assert "another machine's" not in below


def test_a_machine_without_the_onnx_loop_says_so(tmp_path):
    save(tmp_path, run(benchmark("torch")))
    shown = words(charts.render_history(compare_cases(read_runs(tmp_path)), {})[f"charts/history-{slug(tmp_path)}.svg"])
    assert "no run holds the ONNX loop" in shown


def slug(folder) -> str:
    return read_runs(folder)["fingerprint"].iloc[0]
