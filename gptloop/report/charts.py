"""The report's charts: frames in, matplotlib figures and image files out.

Knows colours and positions; does not form a ratio (`compare` did) nor word a number (`text` does). Uses matplotlib's
object interface only, so it needs no display and leaves no state. The same frame gives the same bytes.
"""

import io
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pandas as pd
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gptloop.report import text
from gptloop.report.compare import BASELINE, CANDIDATE

# lukalabs/onnx_gpt_loop, README (2022): RTX 3090, fp16, 64 candidates, 36 + 36 tokens.
PUBLISHED_2022 = {"gpt2": 1.78, "gpt2-medium": 1.68, "gpt2-large": 1.49}
_PUBLISHED_TITLE = "published 2022, another machine: RTX 3090, fp16, 64 candidates (lukalabs/onnx_gpt_loop)"

# Okabe and Ito's palette for contenders (the baseline in grey), Tol's muted for workloads: both colour-blind safe.
_CONTENDER_COLOURS = {BASELINE: "#8C8C8C", "torch_tiled": "#56B4E9", "hf_generate": "#E69F00", CANDIDATE: "#0072B2"}
_OTHER_CONTENDERS = ("#009E73", "#D55E00", "#CC79A7", "#F0E442", "#000000")
_WORKLOAD_COLOURS = {"1x1": "#332288", "8x1": "#44AA99", "64x1": "#DDCC77", "1x64": "#CC6677"}
_OTHER_WORKLOADS = ("#88CCEE", "#117733", "#882255", "#AA4499", "#999933")

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
_SMALL = 8.0
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
            ("tokens_per_s", tokens_per_s_figure(cases, contenders)),
            ("latency", latency_figure(cases, contenders)),
        ):
            files[f"charts/{name}-{fingerprint}.png"] = _rendered(figure, "png", {"Software": None})
            files[f"charts/{name}-{fingerprint}.svg"] = _rendered(figure, "svg", {"Date": None, "Creator": None})
    return files


def workload_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each workload; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["workload"].unique(), _WORKLOAD_COLOURS, _OTHER_WORKLOADS)


def contender_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each contender; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["contender"].unique(), _CONTENDER_COLOURS, _OTHER_CONTENDERS)


def speedup_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """Speedup over the baseline by model size, a bar for each workload and a panel for each contender.

    Args:
        cases: Rows of one machine.
        colours: By workload.
    """
    panels = _speedup_panels(cases[cases["speedup"].notna()])
    slots = max((_slots(panel, _is_candidate(panel)) for panel in panels), default=0.0)
    width = min(14.0, max(7.5, 1.5 + 0.62 * slots))
    with _styled():
        figure = _figure("Speedup over the KV-cached PyTorch loop", cases, width, 1.9 + 2.1 * max(1, len(panels)))
        all_axes = figure.subplots(max(1, len(panels)), squeeze=False).ravel()
        for axes, panel in zip(all_axes, panels, strict=False):
            _speedup_panel(axes, panel, colours, slots)
        if not panels:
            _say_nothing_to_show(all_axes[0], "no case holds both the baseline and another contender")
        _legend(figure, _speedup_handles(panels, colours))
    return figure


def tokens_per_s_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """New tokens per second of each case, contenders side by side.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    with _styled():
        figure = _figure("New tokens per second, all rows together", cases, 9.0, _height(cases))
        axes = figure.subplots()
        _case_bars(axes, cases, cases["tokens_per_s"], text.rate_text, colours)
        axes.set_xlabel(_axis_label("tokens/s, more is better", axes))
        _legend(figure, _contender_handles(cases, colours))
    return figure


def latency_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """TTFT and time per output token of each case, in two panels.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    with _styled():
        figure = _figure("Latency", cases, 11.0, _height(cases))
        first, second = figure.subplots(1, 2, sharey=True)
        for axes, column, title in (
            (first, "ttft_s", "TTFT"),
            (second, "time_per_output_token_s", "Time per output token"),
        ):
            _case_bars(axes, cases, cases[column].astype(float) * 1e3, _milliseconds, colours)
            axes.set_title(title)
            axes.set_xlabel(_axis_label("ms, less is better", axes))
        second.tick_params(labelleft=False)
        _legend(figure, _contender_handles(cases, colours))
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


def _figure(title: str, cases: pd.DataFrame, width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    lines = [textwrap.fill(line, int(width * 15)) for line in _caption(cases)]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=_SMALL, color="#555555")
    return figure


def _caption(cases: pd.DataFrame) -> list[str]:
    machine = cases["machine"].iloc[0]
    work = [text.precision_text(cases), text.weights_text(cases), text.tokens_text(cases), text.sampling_text(cases)]
    return [
        f"{text.hardware_text(machine)} | {' | '.join(work)} | commit {text.commits_text(cases)}",
        text.versions_text(machine),
    ]


def _legend(figure: Figure, handles: Sequence[Artist]) -> None:
    if handles:
        labels = [str(handle.get_label()) for handle in handles]
        figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(handles)))


def _say_nothing_to_show(axes: Axes, words: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:37]}..."


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


def _slots(panel: pd.DataFrame, published: bool) -> float:
    return sum(len(bars) + (published and size in PUBLISHED_2022) + 0.8 for size, bars in _sizes(panel))


def _speedup_panel(axes: Axes, panel: pd.DataFrame, colours: Colours, slots: float) -> None:
    left, ticks = 0.0, {}
    for size, bars in _sizes(panel):
        xs = [left + i for i in range(len(bars))]
        _speedup_bars(axes, xs, bars, colours)
        ticks[(xs[0] + xs[-1]) / 2] = _short(size)
        left += len(bars)
        if _is_candidate(panel) and size in PUBLISHED_2022:
            _published(axes, left, PUBLISHED_2022[size])
            left += 1
        left += 0.8
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.7, max(slots, 4.0) - 1.1)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    axes.axhline(1.0, color="#444444", linewidth=1, linestyle=(0, (4, 3)))
    axes.grid(axis="y")
    axes.set_title(_panel_title(panel))


def _speedup_bars(axes: Axes, xs: Sequence[float], bars: pd.DataFrame, colours: Colours) -> None:
    whiskers = [bars["speedup"] - bars["speedup_min"], bars["speedup_max"] - bars["speedup"]]
    axes.bar(xs, bars["speedup"], width=0.86, color=[colours[workload] for workload in bars["workload"]])
    axes.errorbar(xs, bars["speedup"], yerr=whiskers, fmt="none", ecolor="#333333", elinewidth=1, capsize=2.5)
    for x, speedup, top in zip(xs, bars["speedup"], bars["speedup_max"], strict=True):
        _note(axes, text.ratio_text(speedup), x, top)


def _published(axes: Axes, x: float, speedup: float) -> None:
    axes.plot([x], [speedup], marker="D", markersize=6, color="white", markeredgecolor="#333333")
    _note(axes, text.ratio_text(speedup), x, speedup, offset=6)


def _note(axes: Axes, words: str, x: float, y: float, offset: float = 3) -> None:
    axes.annotate(words, (x, y), (0, offset), textcoords="offset points", ha="center", va="bottom", fontsize=_SMALL)


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
        handles.append(Line2D([], [], color="#444444", linewidth=1, linestyle=(0, (4, 3)), label="PyTorch loop = 1"))
        handles.append(Line2D([], [], color="#333333", marker="|", linestyle="", label="min to max of paired rounds"))
    if any(_is_candidate(panel) and PUBLISHED_2022.keys() & set(panel["size"]) for panel in panels):
        diamond = {"marker": "D", "color": "white", "markeredgecolor": "#333333", "linestyle": ""}
        handles.append(Line2D([], [], label=_PUBLISHED_TITLE, **diamond))
    return handles


# Tokens per second and latency: horizontal bars, a block for each case, so that any number of cases stays legible.


def _case_bars(axes: Axes, cases: pd.DataFrame, values: "pd.Series[float]", words: Words, colours: Colours) -> None:
    _scale(axes, values[values.notna()])
    y, ticks = 0.0, {}
    for _, case in cases.groupby(["run", "group"], sort=False):
        ys = [y + i for i in range(len(case))]
        _contender_bars(axes, ys, values.loc[case.index], [colours[name] for name in case["contender"]], words)
        ticks[(ys[0] + ys[-1]) / 2] = _case_label(case, cases)
        y = ys[-1] + 1.9
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(y - 1.2, -0.7)
    axes.grid(axis="x")


def _contender_bars(
    axes: Axes, ys: Sequence[float], values: "pd.Series[float]", colours: Sequence[str], words: Words
) -> None:
    axes.barh(ys, values, height=0.88, color=colours)
    for y, value in zip(ys, values, strict=True):
        if pd.isna(value):
            place, label = {"xy": (0, y), "xycoords": axes.get_yaxis_transform()}, text.DASH
        else:
            place, label = {"xy": (value, y)}, words(value)
        axes.annotate(label, xytext=(3, 0), textcoords="offset points", va="center", fontsize=_SMALL, **place)


def _scale(axes: Axes, values: "pd.Series[float]") -> None:
    """Room for the numbers at the ends of the bars; logarithmic where a linear scale would hide the short ones."""
    if values.empty:
        return
    low, high = values.min(), values.max()
    if low > 0 and high / low >= _LOG_FROM:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(low / 2, high * (2 * high / low) ** 0.16)
    else:
        axes.set_xlim(min(0.0, low * 1.2), max(high * 1.18, 1e-9))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _axis_label(words: str, axes: Axes) -> str:
    return f"{words} (log scale)" if axes.get_xscale() == "log" else words


def _case_label(case: pd.DataFrame, cases: pd.DataFrame) -> str:
    """Size and workload, and whatever else tells this case from the others."""
    first = case.iloc[0]
    facts = [_short(first["workload_title"])]
    if len(cases[["prompt_len", "max_new_tokens"]].drop_duplicates()) > 1:
        facts.append(f"{first['prompt_len']} + {first['max_new_tokens']} tokens")
    if cases["precision"].nunique() > 1:
        facts.append(text.precision_text(case))
    return f"{_short(first['size'])}\n{', '.join(facts)}"


def _milliseconds(value: float) -> str:
    return text.milliseconds_text(value / 1e3)


def _contender_handles(cases: pd.DataFrame, colours: Colours) -> list[Artist]:
    names = [name for name in colours if name in set(cases["contender"])]
    return [Patch(color=colours[name], label=_short(text.contender_title(name))) for name in names]


def _height(cases: pd.DataFrame) -> float:
    return 1.9 + 0.2 * (len(cases) + 0.9 * cases["group"].nunique())
