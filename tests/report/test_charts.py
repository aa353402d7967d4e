"""Charts: the same bytes for the same runs, every fact on each, and nothing that a name can break."""

import matplotlib
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from report_runs import CEILING, benchmark, compared, gpu_machine, machine, pair, run, save, words

from gptloop.report import charts
from gptloop.report.contenders import CONTENDERS

HOSTILE = r"a|b <x> $\frac{1}{0}$ & %"


def svgs(files: dict[str, bytes]) -> dict[str, list[str]]:
    """The text of each chart, by its kind."""
    return {name[7:].split("-")[0]: words(content) for name, content in files.items() if name.endswith(".svg")}


def bars(axes) -> list[tuple[float, str]]:
    return [(bar.get_height(), to_hex(bar.get_facecolor()).upper()) for bar in axes.patches]


def speedup_axes(frame: pd.DataFrame) -> list:
    return charts.speedup_figure(frame, charts.workload_colours(frame)).axes


@pytest.fixture(scope="module")
def two_machines(tmp_path_factory) -> tuple[pd.DataFrame, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("reports")
    slow = benchmark("hf_generate", (4.0, 4.4, 4.8))
    save(folder, run(*pair(device="cuda", weights="pretrained"), machine=gpu_machine()), "m/0002_run.json")
    frame = compared(folder, *pair(), slow, *pair(workload="1x64"), *pair(size="gpt2-xl"))
    return frame, charts.render_charts(frame)


def test_each_machine_has_its_charts_in_two_formats(two_machines):
    frame, files = two_machines
    kinds = ("speedup", "ladder", "tokens_per_s", "latency")
    slugs = frame["fingerprint"].unique()
    assert len(slugs) == 2
    assert set(files) == {f"charts/{k}-{s}.{end}" for k in kinds for s in slugs for end in ("png", "svg")}
    assert all(content.startswith(b"\x89PNG") for name, content in files.items() if name.endswith("png"))


def test_the_same_runs_give_the_same_bytes(two_machines):
    frame, files = two_machines
    assert charts.render_charts(frame) == files


def test_every_chart_states_its_facts(two_machines):
    _, files = two_machines
    for name, content in files.items():
        if name.endswith(".svg"):
            caption = " ".join(words(content))
            hardware = "NVIDIA H200, CUDA 12.8" if "cuda" in name else "CPU Intel(R) Xeon(R) Processor, 2 threads"
            weights = "pretrained weights" if "cuda" in name else "seeded random weights (random, seed 0)"
            for fact in (hardware, weights, "fp32", "36 prompt + 36 new tokens", "commit 0123456789", "torch 2.13.0"):
                assert fact in caption, (name, fact)


def test_the_values_are_printed_on_the_charts(tmp_path):
    shown = svgs(charts.render_charts(compared(tmp_path, *pair())))
    assert "2.00x" in shown["speedup"]
    assert {"131", "262"} <= set(shown["tokens_per_s"])
    assert {"200", "100", "57.1", "28.6"} <= set(shown["latency"])
    assert {"PyTorch loop", "ONNX loop", "gpt2", "8 prompts"} <= set(shown["latency"])


def test_a_bar_is_as_high_as_its_speedup_with_whiskers_to_its_spread(tmp_path):
    frame = compared(tmp_path, benchmark("torch", (2.0, 6.0, 4.0)), benchmark("onnx", (1.0, 2.0, 1.0)))
    (axes,) = speedup_axes(frame)
    assert [height for height, _ in bars(axes)] == [3.0]
    (whisker,) = axes.collections[0].get_segments()
    assert whisker[:, 1].tolist() == [2.0, 4.0]
    assert [1.0, 1.0] in [list(line.get_ydata()) for line in axes.lines]


def test_the_published_speedups_are_diamonds_of_another_machine(two_machines):
    _, files = two_machines
    shown = svgs({name: content for name, content in files.items() if "-cpu-" in name})["speedup"]
    assert "1.78x" in shown
    assert "1.68x" not in shown
    assert "2022: RTX 3090, fp16" in shown


def test_a_size_without_published_speedup_has_no_diamond(tmp_path):
    shown = svgs(charts.render_charts(compared(tmp_path, *pair(size="gpt2-xl"))))["speedup"]
    assert not any("2022" in line for line in shown)


def test_the_onnx_loop_has_the_first_panel_and_only_gptloops_own_have_one(tmp_path):
    others = [benchmark("hf_generate"), benchmark("onnx_step"), benchmark("torch_tiled")]
    titles = [axes.get_title(loc="left") for axes in speedup_axes(compared(tmp_path, *others, *pair()))]
    assert titles == [
        "ONNX loop (fp32) over PyTorch loop (fp32)",
        "ONNX, a step per run (fp32) over PyTorch loop (fp32)",
    ]


def test_the_ladder_has_every_contender_and_the_baseline_at_one(tmp_path):
    frame = compared(tmp_path, benchmark("hf_generate", (3.0, 4.0, 8.0)), *pair())
    palette = charts.contender_colours(frame)
    (axes,) = charts.ladder_figure(frame, palette).axes
    lengths = {to_hex(bar.get_facecolor()).upper(): bar.get_width() for bar in axes.patches}
    expected = dict(zip(frame["contender"], frame["speedup"], strict=True)) | {"torch": 1.0}
    assert lengths == {palette[contender]: pytest.approx(speedup) for contender, speedup in expected.items()}
    assert expected["hf_generate"] < 1 < expected["onnx"]


def test_without_a_baseline_the_ladder_has_a_dash(tmp_path):
    assert "-" in svgs(charts.render_charts(compared(tmp_path, benchmark("onnx"))))["ladder"]


def test_precisions_have_panels_of_their_own_and_fp32_is_first(tmp_path):
    int8 = [benchmark("torch", group="int8"), benchmark("onnx", group="int8", precision="int8")]
    titles = [axes.get_title(loc="left") for axes in speedup_axes(compared(tmp_path, *int8, *pair()))]
    assert titles == ["ONNX loop (fp32) over PyTorch loop (fp32)", "ONNX loop (int8) over PyTorch loop (fp32)"]


def test_a_workload_has_one_colour_everywhere(tmp_path):
    whole = compared(tmp_path, *pair(), *pair(workload="1x64"), *pair(size="gpt2-xl"), *pair(workload="3x3"))
    one = whole[whole["workload"] == "1x64"]
    palette = charts.workload_colours(whole)
    assert [colour for _, colour in bars(speedup_axes(one)[0])] == [palette["1x64"]]
    assert len({palette[name] for name in ("8x1", "1x64", "3x3")}) == 3


def test_a_contender_has_one_colour_everywhere(two_machines):
    frame, _ = two_machines
    palette = charts.contender_colours(frame)
    for _, cases in frame.groupby("fingerprint"):
        for figure in (charts.tokens_per_s_figure(cases, palette), charts.latency_figure(cases, palette)):
            for axes in figure.axes:
                drawn = [to_hex(bar.get_facecolor()).upper() for bar in axes.patches]
                assert drawn == [palette[contender] for contender in cases["contender"]]


def test_a_missing_baseline_leaves_the_speedup_chart_empty_but_there(tmp_path):
    shown = svgs(charts.render_charts(compared(tmp_path, benchmark("onnx"))))
    assert "no case holds both the baseline and one of gptloop's graphs" in shown["speedup"]
    assert "36.0" not in shown["speedup"]
    assert "288" in shown["tokens_per_s"]


def test_a_case_of_the_prompt_alone_has_a_dash_for_the_time_per_output_token(tmp_path):
    frame = compared(tmp_path, *pair(workload="1x1", max_new_tokens=1))
    assert svgs(charts.render_charts(frame))["latency"].count("-") == 2


@pytest.mark.parametrize(("factor", "scale"), [(10, "linear"), (100, "log")])
def test_the_scale_is_logarithmic_if_the_range_demands_it(tmp_path, factor, scale):
    frame = compared(tmp_path, benchmark("torch", (float(factor),)), benchmark("onnx", (1.0,)))
    for axes in charts.latency_figure(frame, charts.contender_colours(frame)).axes:
        assert axes.get_xscale() == scale
        assert ("(log scale)" in axes.get_xlabel()) == (scale == "log")


def test_hostile_names_are_drawn_as_they_are(tmp_path):
    facts = {"size": HOSTILE, "workload_title": HOSTILE, "weights": HOSTILE}
    contenders = [benchmark(name, **facts) for name in (HOSTILE, "_hidden")]
    frame = compared(tmp_path, *pair(**facts), *contenders, machine=machine(cpu=HOSTILE))
    for kind, shown in svgs(charts.render_charts(frame)).items():
        assert HOSTILE in shown, kind
        assert any("_hidden" in line for line in shown) == (kind != "speedup"), kind  # which has gptloop's own only


def test_long_names_are_cut(tmp_path):
    shown = svgs(charts.render_charts(compared(tmp_path, *pair(size="x" * 500))))
    assert max(map(len, shown["latency"])) < 200
    assert "x" * 45 + "..." in shown["latency"]


@pytest.mark.parametrize("count", [1, 5, 12])
def test_no_two_labels_overlap(tmp_path, count):
    sizes = ["distilgpt2", "gpt2", "gpt2-medium", "gpt2-large"]
    cases = [(size, workload) for size in sizes for workload in ("1x1", "8x1", "1x64")][:count]
    frame = compared(tmp_path, *(entry for size, workload in cases for entry in pair(size=size, workload=workload)))
    for figure in (
        charts.speedup_figure(frame, charts.workload_colours(frame)),
        charts.ladder_figure(frame, charts.contender_colours(frame)),
        charts.tokens_per_s_figure(frame, charts.contender_colours(frame)),
        charts.latency_figure(frame, charts.contender_colours(frame)),
    ):
        figure.draw_without_rendering()
        boxes = [box for axes in figure.axes for box in label_boxes(axes)]
        boxes += [figure.legends[0].get_window_extent(), figure._supxlabel.get_window_extent()]
        assert len(boxes) > count
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def label_boxes(axes) -> list:
    labels = [*axes.texts, axes._left_title, *axes.get_xticklabels(), *axes.get_yticklabels()]
    inside = [label for label in labels if label.get_text() and label.get_visible()]
    x_low, x_high = axes.get_xlim()
    shown = [t for t in inside if t not in axes.get_xticklabels() or x_low <= t.get_position()[0] <= x_high]
    return [label.get_window_extent() for label in shown]


def test_the_reader_s_own_matplotlib_settings_change_nothing(tmp_path):
    frame = compared(tmp_path, *pair())
    expected = charts.render_charts(frame)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "savefig.dpi": 30, "svg.fonttype": "path"}):
        assert charts.render_charts(frame) == expected


def marks(axes) -> list[float]:
    return [x for line in axes.lines if line.get_marker() == "|" for x in line.get_xdata()]


def test_the_latency_chart_marks_the_ceiling(tmp_path):
    frame = compared(tmp_path, benchmark("torch", (2.0, 2.0, 2.0)), benchmark("onnx", (1.2, 1.2, 1.2), **CEILING))
    figure = charts.latency_figure(frame, charts.contender_colours(frame))
    ttft, per_token = map(marks, figure.axes)
    assert ttft == pytest.approx([100])
    assert per_token == pytest.approx([(1.0 - 0.1) / 35 * 1e3])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-1] == "ceiling of this machine"


def test_without_a_ceiling_nothing_is_marked(tmp_path):
    frame = compared(tmp_path, *pair())
    figure = charts.latency_figure(frame, charts.contender_colours(frame))
    assert [marks(axes) for axes in figure.axes] == [[], []]
    assert not any("ceiling" in text.get_text() for text in figure.legends[0].get_texts())


def test_known_contenders_have_colours_of_their_own():
    colours = charts.contender_colours(pd.DataFrame({"contender": ["torch", "new"]}))
    assert set(CONTENDERS) < set(colours)
    assert len(set(colours.values())) == len(colours)
