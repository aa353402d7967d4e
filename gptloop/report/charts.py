"""The report's charts: frames in, matplotlib figures and image files out.

Knows colours and positions; does not form a ratio (`compare` did) nor word a number (`text` does). Uses matplotlib's
object interface only, so it needs no display and leaves no state. The same frame gives the same bytes.
"""

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Transform

from gptloop.report import text
from gptloop.report.compare import BASELINE, CANDIDATE

# lukalabs/onnx_gpt_loop, README (2022): RTX 3090, fp16, 64 candidates, 36 + 36 tokens.
PUBLISHED_2022 = {"gpt2": 1.78, "gpt2-medium": 1.68, "gpt2-large": 1.49}
_PUBLISHED_TITLE = "published in 2022, another machine"
_PUBLISHED_NOTE = "Diamonds: lukalabs/onnx_gpt_loop, 2022, on another machine (RTX 3090, fp16, 64 candidates)"

# Okabe and Ito's palette for contenders (the baseline in grey, the peers from Tol's muted), Tol's light for workloads:
# all colour-blind safe.
_CONTENDER_COLOURS = {
    BASELINE: "#8C8C8C",
    "torch_tiled": "#56B4E9",
    "torch_int8": "#CC79A7",
    "torch_compiled": "#D55E00",
    "hf_generate": "#E69F00",
    "ctranslate2": "#882255",
    "ctranslate2_int8": "#AA4499",
    "openvino": "#332288",
    "onnx_step": "#F0E442",
    CANDIDATE: "#0072B2",
    "onnx_int8": "#009E73",
}
_OTHER_CONTENDERS = ("#44AA99", "#999933", "#DDCC77", "#000000")
_WORKLOAD_COLOURS = {"1x1": "#77AADD", "8x1": "#44BB99", "64x1": "#EEDD88", "1x64": "#EE8866"}
_OTHER_WORKLOADS = ("#99DDFF", "#BBCC33", "#FFAABB", "#AAAA00", "#DDDDDD")

# Sizes by colour and workloads by marker, in a history, where lines are too thin for light colours (Okabe and Ito).
_SIZE_COLOURS = {
    "distilgpt2": "#D55E00",
    "gpt2": "#0072B2",
    "gpt2-medium": "#009E73",
    "gpt2-large": "#CC79A7",
    "gpt2-xl": "#E69F00",
}
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MOST_RUN_LABELS = 12

_STYLE = {
    "svg.hashsalt": "gptloop",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}
_INK = "#333333"
_SMALL = 8.0
_GAP = 0.8  # between two sizes, in bars
_FEWEST_SLOTS = 8.0  # below it bars would be as wide as doors
_LOG_FROM = 30.0  # the ratio of the longest bar to the shortest from which the short ones cannot be read

Colours = Mapping[str, str]
Words = Callable[[float], str]


def render_charts(compared: pd.DataFrame) -> dict[str, bytes]:
    """Every chart of every machine as PNG and SVG.

    Args:
        compared: The frame of `compare.compare_cases`.

    Returns:
        Contents by path below the report's folder: `charts/speedup-<fingerprint>.png` and so on.
    """
    workloads = workload_colours(compared)
    contenders = contender_colours(compared)
    files = {}
    for fingerprint, cases in compared.groupby("fingerprint", sort=False):
        for name, figure in (
            ("speedup", speedup_figure(cases, workloads)),
            ("ladder", ladder_figure(cases, contenders)),
            ("tokens_per_s", tokens_per_s_figure(cases, contenders)),
            ("latency", latency_figure(cases, contenders)),
        ):
            files[f"charts/{name}-{fingerprint}.png"] = _rendered(figure, "png", {"Software": None})
            files[f"charts/{name}-{fingerprint}.svg"] = _rendered(figure, "svg", {"Date": None, "Creator": None})
    return files


def render_history(compared: pd.DataFrame) -> dict[str, bytes]:
    """The speedups of all runs of each machine, as PNG and SVG.

    Args:
        compared: The frame of `compare.compare_cases`, of all runs.

    Returns:
        Contents by path below the report's folder: `charts/history-<fingerprint>.png` and `.svg`.
    """
    files = {}
    for fingerprint, cases in compared.groupby("fingerprint", sort=False):
        figure = history_figure(cases)
        files[f"charts/history-{fingerprint}.png"] = _rendered(figure, "png", {"Software": None})
        files[f"charts/history-{fingerprint}.svg"] = _rendered(figure, "svg", {"Date": None, "Creator": None})
    return files


def workload_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each workload; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["workload"].unique(), _WORKLOAD_COLOURS, _OTHER_WORKLOADS)


def contender_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each contender; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["contender"].unique(), _CONTENDER_COLOURS, _OTHER_CONTENDERS)


def speedup_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """Speedup of gptloop's own contenders over the baseline by model size, a bar for each workload, a panel for each.

    Args:
        cases: Rows of one machine.
        colours: By workload.
    """
    own = cases["contender"].str.startswith(CANDIDATE)  # onnx, onnx_int8, onnx_step, ...
    panels = _speedup_panels(cases[own & cases["speedup"].notna()])
    notes = [_PUBLISHED_NOTE] if _with_published(panels) else []
    slots = max((_slots(panel) for panel in panels), default=0.0)
    with _styled():
        figure = _figure(max(8.0, 1.5 + 0.55 * slots), 2.6 + 2.0 * max(1, len(panels)), cases, notes)
        heights = [1.4 if _is_candidate(panel) else 1.0 for panel in panels] or [1.0]
        all_axes = figure.subplots(len(heights), squeeze=False, height_ratios=heights).ravel()
        for axes, panel in zip(all_axes, panels, strict=False):
            _speedup_panel(axes, panel, colours, slots)
        if not panels:
            _say_nothing_to_show(all_axes[0], "no case holds both the baseline and one of gptloop's graphs")
        _title(figure, "Speedup over the KV-cached PyTorch loop", _speedup_handles(panels, colours))
    return figure


def ladder_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """Speedup over the baseline of every contender of each case, side by side.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    speedups = cases["speedup"].astype(float).where(cases["contender"] != BASELINE, 1.0)
    with _styled():
        figure = _figure(9.0, _height(cases), cases)
        axes = figure.subplots()
        axes.axvline(1.0, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        _case_bars(axes, cases, speedups, text.ratio_text, colours)
        axes.set_xlabel(_axis_label("speedup over the KV-cached PyTorch loop, more is better", axes))
        _title(figure, "Speedup of every contender", _contender_handles(cases, colours))
    return figure


def tokens_per_s_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """New tokens per second of each case, contenders side by side.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    with _styled():
        figure = _figure(9.0, _height(cases), cases)
        axes = figure.subplots()
        _case_bars(axes, cases, cases["tokens_per_s"], text.rate_text, colours)
        axes.set_xlabel(_axis_label("tokens/s, more is better", axes))
        _title(figure, "New tokens per second, all rows together", _contender_handles(cases, colours))
    return figure


def latency_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """TTFT and time per output token of each case, in two panels, with a mark where its ceiling allows no less.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    with _styled():
        figure = _figure(11.0, _height(cases), cases)
        first, second = figure.subplots(1, 2, sharey=True)
        for axes, column, title in (
            (first, "ttft_s", "TTFT"),
            (second, "time_per_output_token_s", "Time per output token"),
        ):
            _case_bars(axes, cases, cases[column].astype(float) * 1e3, _milliseconds, colours)
            _floor_marks(axes, cases, cases[f"ceiling_{column}"].astype(float) * 1e3)
            axes.set_title(title)
            axes.set_xlabel(_axis_label("ms, less is better", axes))
        second.tick_params(labelleft=False)
        marked = cases["over_ceiling"].notna().any()
        _title(figure, "Latency", _contender_handles(cases, colours) + ([_floor_mark([], [])] if marked else []))
    return figure


def history_figure(cases: pd.DataFrame) -> Figure:
    """Speedup of the ONNX loop by run, a line for each piece of work and a panel for each precision.

    Args:
        cases: Rows of all runs of one machine, whose hardware and versions are equal in all of them.
    """
    shown = cases[cases["speedup"].notna() & cases["contender"].str.startswith(CANDIDATE)]
    panels = _speedup_panels(shown)
    runs = list(dict.fromkeys(cases.sort_values(["datetime", "run"])["run"]))
    lines = _lines(shown)
    colours = _colours(shown["size"].unique(), _SIZE_COLOURS, _OTHER_CONTENDERS)
    with _styled():
        figure = _figure(9.0, 2.4 + 2.3 * max(1, len(panels)) + 0.2 * (len(lines) // 2), cases, [_HISTORY_NOTE])
        all_axes = figure.subplots(max(1, len(panels)), squeeze=False, sharex=True).ravel()
        handles: dict[str, Artist] = {}
        for axes, panel in zip(all_axes, panels, strict=False):
            _history_panel(axes, panel, runs, lines, colours, handles)
        if panels:
            _run_axis(all_axes[-1], cases, runs)
            handles["1"] = _line_at_one([])
        else:
            _say_nothing_to_show(all_axes[0], "no run holds both the baseline and the ONNX loop")
        _title(figure, "Speedup over the KV-cached PyTorch loop, by run", list(handles.values()))
    return figure


def _styled() -> AbstractContextManager[None]:
    return style.context(["default", _STYLE])


def _rendered(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with _styled():
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()


def _colours(names: Iterable[str], known: Colours, others: Sequence[str]) -> dict[str, str]:
    unknown = sorted(set(names) - known.keys())
    return {**known, **{name: others[i % len(others)] for i, name in enumerate(unknown)}}


def _figure(width: float, height: float, cases: pd.DataFrame, notes: Sequence[str] = ()) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    lines = [_wrapped(facts, int(width * 16)) for facts in (*_caption(cases), notes) if facts]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_SMALL, color="#555555")
    return figure


def _caption(cases: pd.DataFrame) -> list[list[str]]:
    machine = cases["machine"].iloc[0]
    work = [text.precision_text(cases), text.weights_text(cases), text.tokens_text(cases), text.sampling_text(cases)]
    return [
        [text.hardware_text(machine), *work, f"commit {text.commits_text(cases)}"],
        [text.versions_text(machine)],
    ]


def _wrapped(facts: Sequence[str], width: int) -> str:
    """Facts in lines of a width, broken between facts where possible."""
    unbreakable = " | ".join(fact.replace(" ", "\xa0") if len(fact) < width else fact for fact in facts)
    return textwrap.fill(unbreakable, width).replace("\xa0", " ")


def _title(figure: Figure, title: str, handles: Sequence[Artist]) -> None:
    """The title and the legend as one, so that the layout keeps them apart."""
    labels = [str(handle.get_label()) for handle in handles]
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=_legend_columns(labels, figure.get_figwidth() * 14),
        title=title,
        title_fontproperties={"size": 13, "weight": "bold"},
        alignment="left",
    )


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """As many columns, up to four, as fit beside each other in a width in letters."""
    for columns in range(min(4, len(labels)), 1, -1):
        filled = np.array_split([len(label) + 7 for label in labels], columns)  # as matplotlib fills them
        if sum(column.max() for column in filled) <= width:
            return columns
    return 1


def _say_nothing_to_show(axes: Axes, words: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)


def _short(name: str, most: int = 48) -> str:
    return name if len(name) <= most else f"{name[: most - 3]}..."


# Speedup: vertical bars, one panel for each contender and pair of precisions.


def _speedup_panels(shown: pd.DataFrame) -> list[pd.DataFrame]:
    keys = ["contender", "precision", "baseline_precision"]
    panels = [panel for _, panel in shown.groupby(keys, sort=False)]
    return sorted(panels, key=lambda panel: not _is_candidate(panel))  # stable: fp32 stays first


def _is_candidate(panel: pd.DataFrame) -> bool:
    return bool(panel["contender"].iloc[0] == CANDIDATE)


def _sizes(panel: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for size, bars in panel.groupby("size", sort=False):
        yield str(size), bars


def _with_published(panels: Sequence[pd.DataFrame]) -> bool:
    return any(_is_candidate(panel) and PUBLISHED_2022.keys() & set(panel["size"]) for panel in panels)


def _slots(panel: pd.DataFrame) -> float:
    return sum(len(bars) + (size in PUBLISHED_2022) + _GAP for size, bars in _sizes(panel)) - _GAP


def _speedup_panel(axes: Axes, panel: pd.DataFrame, colours: Colours, slots: float) -> None:
    left, top, ticks = 0.0, max(1.0, panel["speedup_max"].max()), {}
    for size, bars in _sizes(panel):
        _speedup_bars(axes, left, bars, colours)
        ticks[left + (len(bars) - 1) / 2] = textwrap.fill(_short(size), max(12, 9 * len(bars)))
        left += len(bars)
        if size in PUBLISHED_2022:  # a place of its own, left empty beside other contenders, so that panels line up
            if _is_candidate(panel):
                _published(axes, left, PUBLISHED_2022[size])
                top = max(top, PUBLISHED_2022[size])
            left += 1
        left += _GAP
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="x", length=0)
    margin = max(0.0, _FEWEST_SLOTS - slots) / 2
    axes.set_xlim(-0.8 - margin, slots - 0.2 + margin)
    axes.set_ylim(0, top * 1.18)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.add_line(_line_at_one([0, 1], axes.get_yaxis_transform()))
    axes.grid(axis="y")
    axes.set_title(_panel_title(panel))


def _speedup_bars(axes: Axes, left: float, bars: pd.DataFrame, colours: Colours) -> None:
    xs = [left + i for i in range(len(bars))]
    whiskers = [bars["speedup"] - bars["speedup_min"], bars["speedup_max"] - bars["speedup"]]
    axes.bar(xs, bars["speedup"], width=0.86, color=[colours[workload] for workload in bars["workload"]])
    axes.errorbar(xs, bars["speedup"], yerr=whiskers, fmt="none", ecolor=_INK, elinewidth=1, capsize=2.5)
    for x, speedup, top in zip(xs, bars["speedup"], bars["speedup_max"], strict=True):
        _note_above(axes, text.ratio_text(speedup), x, top, 3)


def _published(axes: Axes, x: float, speedup: float) -> None:
    axes.add_line(_diamond([x], [speedup], ""))
    _note_above(axes, text.ratio_text(speedup), x, speedup, 6)


def _diamond(xs: Sequence[float], ys: Sequence[float], label: str) -> Line2D:
    return Line2D(xs, ys, marker="D", markersize=6, color="white", markeredgecolor=_INK, linestyle="", label=label)


def _line_at_one(xs: Sequence[float], transform: Transform | None = None) -> Line2D:
    label = f"{text.contender_title(BASELINE)} = 1"
    line = Line2D(xs, [1.0] * len(xs), color=_INK, linewidth=1, linestyle=(0, (4, 3)), label=label)
    if transform is not None:
        line.set_transform(transform)
    return line


def _note_above(axes: Axes, words: str, x: float, y: float, points: float) -> None:
    axes.annotate(
        words,
        (x, y),
        (0, points),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=_SMALL,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def _panel_title(panel: pd.DataFrame) -> str:
    first = panel.iloc[0]
    contender, baseline = text.contender_title(first["contender"]), text.contender_title(BASELINE)
    return f"{_short(contender)} ({first['precision']}) over {baseline} ({first['baseline_precision']})"


def _speedup_handles(panels: Sequence[pd.DataFrame], colours: Colours) -> list[Artist]:
    titles: dict[str, str] = {}
    for panel in panels:
        titles |= dict(zip(panel["workload"], panel["workload_title"], strict=True))
    handles: list[Artist] = [Patch(color=colours[workload], label=_short(title)) for workload, title in titles.items()]
    if panels:
        handles.append(_line_at_one([]))
        handles.append(
            Line2D([], [], color=_INK, marker="|", markersize=10, linestyle="", label="min to max of paired rounds")
        )
    if _with_published(panels):
        handles.append(_diamond([], [], _PUBLISHED_TITLE))
    return handles


# History: a line for each piece of work, over the runs.

_WORK = ("size", "workload", "prompt_len", "max_new_tokens", "temperature", "top_k", "weights", "workload_title")
_HISTORY_NOTE = (
    "Points: medians of a run, whiskers: min to max of its paired rounds. Runs of this machine only, in order of date, "
    "evenly spaced; * uncommitted changes. It falls, too, when the PyTorch loop gets faster"
)


def _lines(shown: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """The pieces of work, by all that makes two of them the same, and how each is called."""
    rows = shown.drop_duplicates(list(_WORK)).to_dict("records")
    varied = shown["weights"].nunique() > 1
    words = (f"{row['size']}, {text.workload_text(row, shown)}" for row in rows)
    return {
        tuple(row[name] for name in _WORK): f"{label}, {row['weights']}" if varied else label
        for row, label in zip(rows, words, strict=True)
    }


def _history_panel(
    axes: Axes,
    panel: pd.DataFrame,
    runs: Sequence[str],
    lines: Mapping[tuple[Any, ...], str],
    colours: Colours,
    handles: dict[str, Artist],
) -> None:
    workloads = list(dict.fromkeys(work[1] for work in lines))
    for index, (work, label) in enumerate(lines.items()):
        own = panel[(panel[list(_WORK)] == list(work)).all(axis=1)].sort_values(["datetime", "run"])
        if own.empty:
            continue
        # Beside each other, so that no whisker hides another.
        xs = [runs.index(run) + 0.7 * ((index + 0.5) / len(lines) - 0.5) for run in own["run"]]
        colour, marker = colours[work[0]], _MARKERS[workloads.index(work[1]) % len(_MARKERS)]
        whiskers = [own["speedup"] - own["speedup_min"], own["speedup_max"] - own["speedup"]]
        axes.errorbar(xs, own["speedup"], yerr=whiskers, color=colour, marker=marker, markersize=5, linewidth=1)
        line = Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1, label=_short(label, 64))
        handles.setdefault(label, line)
    axes.set_title(_panel_title(panel))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_ylim(0, 1.1 * max(1.0, panel["speedup_max"].max()))
    axes.add_line(_line_at_one([0, 1], axes.get_yaxis_transform()))
    axes.grid(axis="y")


def _run_axis(axes: Axes, cases: pd.DataFrame, runs: Sequence[str]) -> None:
    facts = cases.drop_duplicates("run").set_index("run").loc[list(runs)]
    labels = [
        f"{commit[:7]}{'*' if dirty else ''}\n{at:%Y-%m-%d}"
        for commit, dirty, at in zip(facts["commit"], facts["dirty"], facts["datetime"], strict=True)
    ]
    every = -(-len(runs) // _MOST_RUN_LABELS)
    ticks = range(len(runs) - 1, -1, -every)  # the newest run is always named
    axes.set_xticks(list(ticks), [labels[i] for i in ticks])
    axes.set_xlim(-0.6, len(runs) - 0.4)


# Tokens per second and latency: horizontal bars, a block for each case, so that any number of cases stays legible.


def _case_bars(axes: Axes, cases: pd.DataFrame, values: "pd.Series[float]", words: Words, colours: Colours) -> None:
    _scale(axes, values[values.notna()])
    ticks, y = {}, 0.0
    for case, ys in _places(cases):
        own = values.loc[case.index]
        axes.barh(ys, own, height=0.88, color=[colours[name] for name in case["contender"]])
        for place, value, precision in zip(ys, own, case["precision"], strict=True):
            suffix = f" ({precision})" if case["precision"].nunique() > 1 else ""
            _note_right(axes, f"{text.DASH if pd.isna(value) else words(value)}{suffix}", value, place)
        ticks[(ys[0] + ys[-1]) / 2] = _case_label(case, cases)
        y = ys[-1] + 1.9
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 1.2, -0.7)
    axes.grid(axis="x")


def _places(cases: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, list[float]]]:
    """Each case and the heights of its bars."""
    y = 0.0
    for _, case in cases.groupby("group", sort=False):
        ys = [y + i for i in range(len(case))]
        yield case, ys
        y = ys[-1] + 1.9


def _floor_marks(axes: Axes, cases: pd.DataFrame, floors: "pd.Series[float]") -> None:
    """A mark across the bar of each contender whose ceiling was measured."""
    for case, ys in _places(cases):
        marked = [(floor, y) for floor, y in zip(floors.loc[case.index], ys, strict=True) if not pd.isna(floor)]
        if marked:
            axes.add_line(_floor_mark(*zip(*marked, strict=True)))


def _floor_mark(xs: Sequence[float], ys: Sequence[float]) -> Line2D:
    return Line2D(
        xs,
        ys,
        marker="|",
        markersize=11,
        markeredgewidth=1.6,
        color=_INK,
        linestyle="",
        label="ceiling of this machine",
    )


def _note_right(axes: Axes, words: str, x: float, y: float) -> None:
    at = axes.get_xlim()[0] if pd.isna(x) else x
    axes.annotate(words, (at, y), (3, 0), textcoords="offset points", va="center", fontsize=_SMALL)


def _scale(axes: Axes, values: "pd.Series[float]") -> None:
    """Room for the numbers at the ends of the bars; logarithmic where a linear scale would hide the short ones."""
    if values.empty:
        return
    low, high = values.min(), values.max()
    if low > 0 and high / low >= _LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(low / 2, high * (2 * high / low) ** 0.18)
    else:
        axes.set_xlim(min(0.0, low * 1.2), max(high * 1.18, 1e-9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _axis_label(words: str, axes: Axes) -> str:
    return f"{words} (log scale)" if axes.get_xscale() == "log" else words


def _case_label(case: pd.DataFrame, cases: pd.DataFrame) -> str:
    first = case.iloc[0].to_dict()
    facts = [_short(text.workload_text(first, cases))]
    if cases["precision"].nunique() > 1:
        facts.append(text.precision_text(case[case["contender"] != BASELINE] if len(case) > 1 else case))
    return f"{_short(first['size'])}\n{', '.join(facts)}"


def _milliseconds(value: float) -> str:
    return text.milliseconds_text(value / 1e3)


def _contender_handles(cases: pd.DataFrame, colours: Colours) -> list[Artist]:
    names = [name for name in colours if name in set(cases["contender"])]
    return [Patch(color=colours[name], label=_short(text.contender_title(name))) for name in names]


def _height(cases: pd.DataFrame) -> float:
    return 1.9 + 0.2 * (len(cases) + 0.9 * cases["group"].nunique())
