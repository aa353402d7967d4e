"""Folders of thousands of runs, and runs of a thousand contenders: what is left out is said."""

import re

import pytest
from report_runs import benchmark, compared, machine, pair, run, save, words

from gptloop.report import charts
from gptloop.report.charts import bars, history, speedup
from gptloop.report.page import page_html
from gptloop.report.runs import MOST_MACHINES, newest_machines, read_runs
from gptloop.report.summary import summary_markdown
from gptloop.report.text import precision_text, sampling_text, tokens_text, weights_text


@pytest.fixture
def few(monkeypatch):
    """Limits that a small run is beyond."""
    monkeypatch.setattr(bars, "_MOST_BARS", 6)
    monkeypatch.setattr(bars, "_MOST_CONTENDERS", 3)
    monkeypatch.setattr(speedup, "_MOST_PANELS", 2)
    monkeypatch.setattr(speedup, "_MOST_BARS", 2)
    monkeypatch.setattr(history, "_MOST_PANELS", 2)


def many(count: int, **changes) -> list[dict]:
    return [*pair(**changes), *(benchmark(f"onnx_{index:04}", **changes) for index in range(count))]


def test_charts_show_as_many_bars_as_can_be_read_and_say_so(tmp_path, few):
    frame = compared(tmp_path, *(one for size in ("gpt2", "gpt2-medium", "gpt2-xl") for one in many(4, size=size)))
    slug = frame["fingerprint"].iloc[0]
    files = charts.render_charts(frame)
    for kind in ("ladder", "tokens_per_s", "latency"):
        shown = " ".join(words(files[f"charts/{kind}-{slug}.svg"]))
        assert "12 of 18 bars are left out here; the tables have all" in shown
        assert {"PyTorch loop", "ONNX loop", "onnx_0000"} <= set(words(files[f"charts/{kind}-{slug}.svg"]))
        assert "onnx_0001" not in shown
    shown = " ".join(words(files[f"charts/speedup-{slug}.svg"]))
    assert "11 of 15 bars are left out here" in shown  # two panels of two bars are shown
    assert "ONNX loop (fp32) over PyTorch loop (fp32)" in shown


def test_a_history_shows_as_many_panels_as_a_page_has_room_for(tmp_path, few):
    frame = compared(tmp_path, *(one for size in ("gpt2", "gpt2-medium", "gpt2-xl") for one in pair(size=size)))
    (file,) = [content for name, content in charts.render_history(frame, {}).items() if name.endswith(".svg")]
    assert "1 of 3 panels are left out here" in " ".join(words(file))


def test_what_every_run_has_is_on_the_charts_without_a_note(tmp_path):
    frame = compared(tmp_path, *many(4))
    assert not any("left out" in word for file in charts.render_charts(frame).values() for word in words_of(file))


def words_of(file: bytes) -> list[str]:
    return [] if file.startswith(b"\x89PNG") else words(file)


def test_the_tables_have_every_contender(tmp_path):
    frame = compared(tmp_path, *many(200))
    for shown in (summary_markdown(frame), page_html(frame, {})):
        assert set(re.findall(r"onnx_0\d{3}", shown)) == {f"onnx_{index:04}" for index in range(200)}


def test_dozens_of_contenders_and_of_kinds_of_work_are_drawn(tmp_path):
    """No chart collapses under its legend or its caption, nor is it larger than an image may be."""
    kinds = [
        {"workload": f"{index + 1}x1", "prompt_len": index + 1, "weights": f"w{index}", "temperature": float(index)}
        for index in range(45)
    ]
    whole = [*many(50), *(one for kind in kinds for one in pair(size=f"size {kind['prompt_len']}", **kind))]
    frame = compared(tmp_path, *whole)
    assert len(frame) > 130
    palette = charts.contender_colours(frame)
    for figure in (
        charts.ladder_figure(frame, palette),
        charts.speedup_figure(frame, charts.workload_colours(frame)),
        charts.history_figure(frame, {}, charts.contender_colours(frame)),
    ):
        figure.draw_without_rendering()  # warns, and so fails, where the axes have no room left
        assert max(figure.get_size_inches()) * 160 < 2**16


@pytest.mark.parametrize("of", [tokens_text, weights_text, sampling_text, precision_text])
def test_a_line_names_a_dozen_things_and_counts_the_others(tmp_path, of):
    kinds = [
        {"prompt_len": index, "weights": f"w{index}", "temperature": float(index), "precision": f"p{index}"}
        for index in range(1, 21)
    ]
    frame = compared(tmp_path, *(benchmark(size=f"s{kind['prompt_len']}", **kind) for kind in kinds))
    assert "8 more" in of(frame)
    assert len(of(frame)) < 1000


def test_the_machines_measured_last_are_reported(tmp_path):
    for index in range(MOST_MACHINES + 2):
        at = f"2026-11-{index + 1:02}T00:00:00+00:00"
        save(tmp_path, run(benchmark(), at=at, machine=machine(threads=index + 1)), f"m/{index + 1:04}_run.json")
    said: list[str] = []
    runs = newest_machines(read_runs(tmp_path), said.append)
    assert sorted(one.threads for one in runs["machine"]) == list(range(3, MOST_MACHINES + 3))
    assert said == [f"the runs of 2 of {MOST_MACHINES + 2} machines are left out: those that were measured longest ago"]
