"""Every contender of each case: horizontal bars, a block for each case, so that any number of cases stays legible."""

from collections.abc import Callable, Iterator, Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from gptloop.report import text
from gptloop.report.charts.canvas import INK, NOTE_BOX, SMALL, add_title, left_out, new_figure, short, styled
from gptloop.report.charts.palette import Colours
from gptloop.report.compare import contender_rank
from gptloop.report.contenders import BASELINE

_LOG_FROM = 30.0  # the ratio of the longest bar to the shortest from which the short ones cannot be read
# More would fill a dozen pages, and a legend that leaves no room for the bars.
_MOST_BARS = 200
_MOST_CONTENDERS = 40

Words = Callable[[float], str]


def ladder_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """Speedup over the baseline of every contender of each case, side by side.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    cases, notes = _legible(cases)
    speedups = cases["speedup"].astype(float).where(cases["contender"] != BASELINE, 1.0)
    with styled():
        figure = new_figure(9.0, _height(cases), cases, notes)
        axes = figure.subplots()
        axes.axvline(1.0, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        _case_bars(axes, cases, speedups, text.ratio_text, colours)
        axes.set_xlabel(_axis_label("speedup over the KV-cached PyTorch loop, more is better", axes))
        add_title(figure, "Speedup of every contender", _contender_handles(cases, colours))
    return figure


def tokens_per_s_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """New tokens per second of each case, contenders side by side.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    cases, notes = _legible(cases)
    with styled():
        figure = new_figure(9.0, _height(cases), cases, notes)
        axes = figure.subplots()
        _case_bars(axes, cases, cases["tokens_per_s"], text.rate_text, colours)
        axes.set_xlabel(_axis_label("tokens/s, more is better", axes))
        add_title(figure, "New tokens per second, all rows together", _contender_handles(cases, colours))
    return figure


def latency_figure(cases: pd.DataFrame, colours: Colours) -> Figure:
    """TTFT and time per output token of each case, in two panels, with a mark where its ceiling allows no less.

    Args:
        cases: Rows of one machine.
        colours: By contender.
    """
    cases, notes = _legible(cases)
    with styled():
        figure = new_figure(11.0, _height(cases), cases, notes)
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
        add_title(figure, "Latency", _contender_handles(cases, colours) + ([_floor_mark([], [])] if marked else []))
    return figure


def _legible(cases: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows that a chart has room for, those of the best known contenders, and a note on the others."""
    names = sorted(cases["contender"].unique(), key=contender_rank)[:_MOST_CONTENDERS]
    shown = cases[cases["contender"].isin(names)].head(_MOST_BARS)
    return shown, left_out(len(cases), len(shown), "bars")


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
        color=INK,
        linestyle="",
        label="ceiling of this machine",
        zorder=4,  # above a note that begins there
    )


def _note_right(axes: Axes, words: str, x: float, y: float) -> None:
    at = axes.get_xlim()[0] if pd.isna(x) else x
    axes.annotate(words, (at, y), (3, 0), textcoords="offset points", va="center", fontsize=SMALL, bbox=NOTE_BOX)


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
    facts = [short(text.workload_text(first, cases))]
    if cases["precision"].nunique() > 1:
        facts.append(text.precision_text(case[case["contender"] != BASELINE] if len(case) > 1 else case))
    return f"{short(first['size'])}\n{', '.join(facts)}"


def _milliseconds(value: float) -> str:
    return text.milliseconds_text(value / 1e3)


def _contender_handles(cases: pd.DataFrame, colours: Colours) -> list[Artist]:
    names = [name for name in colours if name in set(cases["contender"])]
    return [Patch(color=colours[name], label=short(text.contender_title(name))) for name in names]


def _height(cases: pd.DataFrame) -> float:
    return 1.9 + 0.2 * (len(cases) + 0.9 * cases["group"].nunique())
