"""Speedup by model size: vertical bars, one panel for each contender and pair of precisions."""

import textwrap
from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Transform

from gptloop.report import text
from gptloop.report.charts.canvas import (
    INK,
    NOTE_BOX,
    SMALL,
    add_title,
    left_out,
    new_figure,
    say_nothing_to_show,
    short,
    styled,
)
from gptloop.report.charts.palette import Colours
from gptloop.report.contenders import BASELINE, CANDIDATE

# lukalabs/onnx_gpt_loop, README (2022): RTX 3090, fp16, 64 candidates, 36 + 36 tokens.
PUBLISHED_2022 = {"gpt2": 1.78, "gpt2-medium": 1.68, "gpt2-large": 1.49}
_PUBLISHED_TITLE = "2022: RTX 3090, fp16"
_PUBLISHED_NOTE = "Diamonds: lukalabs/onnx_gpt_loop, 2022, on another machine (RTX 3090, fp16, 64 candidates)"

_GAP = 0.8  # between two sizes, in bars
_FEWEST_SLOTS = 8.0  # below it bars would be as wide as doors
_MOST_PANELS, _MOST_BARS = 12, 40  # bars of a panel


def speedup_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """Speedup of gptloop's own contenders over the baseline by model size, a bar for each workload, a panel for each.

    Args:
        cases: Rows of one machine.
        colours: By workload.
    """
    own = cases["contender"].str.startswith(CANDIDATE)  # onnx, onnx_int8, onnx_step, ...
    of_all = cases[own & cases["speedup"].notna()]
    panels = [panel.head(_MOST_BARS) for panel in legible_panels(of_all)]
    notes = [_PUBLISHED_NOTE] if _with_published(panels) else []
    notes += left_out(len(of_all), sum(map(len, panels)), "bars")
    slots = max((_slots(panel) for panel in panels), default=0.0)
    with styled():
        figure = new_figure(max(8.0, 1.5 + 0.55 * slots), 2.6 + 2.0 * max(1, len(panels)), cases, notes)
        heights = [1.4 if _is_candidate(panel) else 1.0 for panel in panels] or [1.0]
        all_axes = figure.subplots(len(heights), squeeze=False, height_ratios=heights).ravel()
        for axes, panel in zip(all_axes, panels, strict=False):
            _speedup_panel(axes, panel, colours, slots)
        if not panels:
            say_nothing_to_show(all_axes[0], "no case holds both the baseline and one of gptloop's graphs")
        add_title(figure, "Speedup over the KV-cached PyTorch loop", _speedup_handles(panels, colours))
    return figure


def speedup_panels(shown: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each contender and pair of precisions, those of the ONNX loop first."""
    keys = ["contender", "precision", "baseline_precision"]
    panels = [panel for _, panel in shown.groupby(keys, sort=False)]
    return sorted(panels, key=lambda panel: not _is_candidate(panel))  # stable: fp32 stays first


def legible_panels(shown: pd.DataFrame) -> list[pd.DataFrame]:
    """As many of the panels as a page has room for."""
    return speedup_panels(shown)[:_MOST_PANELS]


def panel_title(panel: pd.DataFrame) -> str:
    """Which contender is shown over the baseline, and in which precision each."""
    first = panel.iloc[0]
    contender, baseline = text.contender_title(first["contender"]), text.contender_title(BASELINE)
    return f"{short(contender)} ({first['precision']}) over {baseline} ({first['baseline_precision']})"


def line_at_one(xs: Sequence[float], transform: Transform | None = None) -> Line2D:
    """The baseline's own speedup."""
    label = f"{text.contender_title(BASELINE)} = 1"
    line = Line2D(xs, [1.0] * len(xs), color=INK, linewidth=1, linestyle=(0, (4, 3)), label=label)
    if transform is not None:
        line.set_transform(transform)
    return line


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
        ticks[left + (len(bars) - 1) / 2] = textwrap.fill(short(size), max(12, 9 * len(bars)))
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
    axes.add_line(line_at_one([0, 1], axes.get_yaxis_transform()))
    axes.grid(axis="y")
    axes.set_title(panel_title(panel))


def _speedup_bars(axes: Axes, left: float, bars: pd.DataFrame, colours: Colours) -> None:
    xs = [left + i for i in range(len(bars))]
    whiskers = [bars["speedup"] - bars["speedup_min"], bars["speedup_max"] - bars["speedup"]]
    axes.bar(xs, bars["speedup"], width=0.86, color=[colours[workload] for workload in bars["workload"]])
    axes.errorbar(xs, bars["speedup"], yerr=whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    for x, speedup, top in zip(xs, bars["speedup"], bars["speedup_max"], strict=True):
        _note_above(axes, text.ratio_text(speedup), x, top, 3)


def _published(axes: Axes, x: float, speedup: float) -> None:
    axes.add_line(_diamond([x], [speedup], ""))
    _note_above(axes, text.ratio_text(speedup), x, speedup, 6)


def _diamond(xs: Sequence[float], ys: Sequence[float], label: str) -> Line2D:
    return Line2D(xs, ys, marker="D", markersize=6, color="white", markeredgecolor=INK, linestyle="", label=label)


def _note_above(axes: Axes, words: str, x: float, y: float, points: float) -> None:
    axes.annotate(
        words,
        (x, y),
        (0, points),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=SMALL,
        bbox=NOTE_BOX,
    )


def _speedup_handles(panels: Sequence[pd.DataFrame], colours: Colours) -> list[Artist]:
    titles: dict[str, str] = {}
    for panel in panels:
        titles |= dict(zip(panel["workload"], panel["workload_title"], strict=True))
    handles: list[Artist] = [Patch(color=colours[workload], label=short(title)) for workload, title in titles.items()]
    if panels:
        handles.append(line_at_one([]))
        handles.append(
            Line2D([], [], color=INK, marker="|", markersize=10, linestyle="", label="min to max of paired rounds")
        )
    if _with_published(panels):
        handles.append(_diamond([], [], _PUBLISHED_TITLE))
    return handles
