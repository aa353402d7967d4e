"""Time by run: a panel for each piece of work, a line for each contender, and where a gated case changed for good."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

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
from gptloop.report.compare import contender_rank
from gptloop.report.contenders import BASELINE, CANDIDATE
from gptloop.report.run_file import CASE_FIELDS
from gptloop.report.trend import LastingChange, Trend
from gptloop.report.verdicts import percent_text

_MOST_RUN_LABELS = 5
_MOST_PANELS, _MOST_LINES = 24, 12
_COLUMNS = 2
_LEAST_RANGE = 0.1  # of time, up and down: or noise of 1 % would look like mountains
_HISTORY_NOTE = (
    "Points: medians of a run, against the median of all its runs here; whiskers: min to max of its rounds. Runs of "
    "this machine only, in order of date, evenly spaced; * uncommitted changes"
)
_STEP_NOTE = "Shaded: the runs between which a gated case changed for good, by how much, and the commits"
_POINTS: dict[str, Any] = {"marker": "o", "markersize": 4, "linewidth": 1.2}
_AT_LINE: dict[str, Any] = {"xytext": (2, -2), "textcoords": "offset points", "va": "top", "color": INK}


def history_figure(
    cases: pd.DataFrame, notes: Mapping[str, str], colours: Colours, trends: Sequence[Trend] = ()
) -> Figure:
    """Time of the PyTorch loop and of gptloop's own contenders by run.

    Args:
        cases: Rows of all runs of one machine, whose hardware and versions are equal in all of them.
        notes: What changed in how runs are measured, by the first run that has it; runs of others are passed over.
        colours: By contender.
        trends: Of this machine's gated cases.
    """
    runs = list(dict.fromkeys(cases.sort_values(["datetime", "run"])["run"]))
    own = cases["contender"].str.startswith(CANDIDATE)
    names = sorted(cases[own]["contender"].unique(), key=contender_rank)[:_MOST_LINES]
    shown = cases[cases["contender"].isin([BASELINE, *names])]
    works = [work for _, work in shown.groupby(list(CASE_FIELDS), sort=False) if work["contender"].isin(names).any()]
    panels = works[:_MOST_PANELS]
    marks = dict(zip((run for run in runs if run in notes and panels), map(str, itertools.count(1)), strict=False))
    changes = any(trend.changes for trend in trends)
    with styled():
        measured = [f"{number}: {notes[run]}" for run, number in marks.items()]
        beyond = left_out(len(works), len(panels), "panels")
        facts = [_HISTORY_NOTE, *([_STEP_NOTE] if changes else [])]
        rows = max(1, -(-len(panels) // _COLUMNS))
        figure = new_figure(10.0, 2.2 + 2.1 * rows + 0.12 * len(marks), cases, facts, measured, beyond)
        columns = min(_COLUMNS, max(1, len(panels)))
        all_axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=False).ravel()
        for axes, panel in zip(all_axes, panels, strict=False):
            _history_panel(axes, panel, runs, cases, colours)
            _mark_changes(axes, panel, runs, trends, colours)
            _mark_notes(axes, runs, marks)
        for axes in all_axes[max(1, len(panels)) :]:
            axes.set_axis_off()
        if panels:
            for axes in all_axes[max(0, len(panels) - columns) : len(panels)]:
                _run_axis(axes, cases, runs)
        else:
            say_nothing_to_show(all_axes[0], "no run holds the ONNX loop")
        add_title(figure, "Time by run, less is better", list(_handles(panels, colours)))
    return figure


def _history_panel(axes: Axes, panel: pd.DataFrame, runs: Sequence[str], cases: pd.DataFrame, colours: Colours) -> None:
    lines = list(_lines(panel))
    most = _LEAST_RANGE
    for index, line in enumerate(lines):
        middle = line["median_s"].median()
        values, low, high = (line[name] / middle - 1 for name in ("median_s", "min_s", "max_s"))
        # Beside each other, so that no whisker hides another.
        xs = [runs.index(run) + 0.5 * ((index + 0.5) / len(lines) - 0.5) for run in line["run"]]
        whiskers = [values - low, high - values]
        colour = colours[line["contender"].iloc[0]]
        axes.errorbar(xs, values, yerr=whiskers, elinewidth=0.6, color=colour, **_POINTS)
        most = max(most, float(values.abs().max()))
    first = panel.iloc[0].to_dict()
    words = f"{first['size']}, {text.workload_text(first, cases)}"
    axes.set_title(short(f"{words}, {first['weights']}" if cases["weights"].nunique() > 1 else words, 60))
    axes.set_ylim(-1.25 * most, 1.25 * most)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.grid(axis="y")


def _percent(value: float, _: int) -> str:
    return f"{100 * value:+.3g} %" if abs(value) > 1e-9 else "0 %"


def _lines(panel: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A contender in one precision, over its runs."""
    ranked = sorted(panel["contender"].unique(), key=contender_rank)
    for name in ranked:
        of_name = panel[panel["contender"] == name].sort_values(["datetime", "run"])
        for _, line in of_name.groupby("precision", sort=False):
            yield line


def _mark_changes(
    axes: Axes, panel: pd.DataFrame, runs: Sequence[str], trends: Sequence[Trend], colours: Colours
) -> None:
    """Shade where gated cases of this panel changed for good; say by how much and between which commits."""
    work = tuple(panel[name].iloc[0] for name in CASE_FIELDS)
    height = itertools.count()
    for trend in trends:
        newest = trend.history[-1]
        if tuple(newest[name] for name in CASE_FIELDS) != work:
            continue
        colour = colours[newest["contender"]]
        _draw_levels(axes, trend, runs, colour)
        for one in trend.changes:
            first, last = (runs.index(row["run"]) for row in (one.before, one.after))
            axes.axvspan(first, last, color=colour, alpha=0.18, linewidth=0)
            left = (first + last) / 2 < len(runs) / 2
            axes.annotate(
                _change_words(one),
                (last if left else first, 1 - 0.11 * next(height)),
                (4 if left else -4, -2),
                xycoords=axes.get_xaxis_transform(),
                textcoords="offset points",
                ha="left" if left else "right",
                va="top",
                fontsize=SMALL,
                bbox=NOTE_BOX,
                zorder=5,
            )


def _draw_levels(axes: Axes, trend: Trend, runs: Sequence[str], colour: str) -> None:
    """The medians before and after each step."""
    steps = [one.change.first_after for one in trend.changes if not one.change.drift]
    times_s = np.array([row["median_s"] for row in trend.history])
    for part in np.split(np.arange(len(times_s)), steps) if steps else []:
        xs = [runs.index(trend.history[i]["run"]) for i in (part[0], part[-1])]
        level = float(np.median(times_s[part]) / np.median(times_s)) - 1
        axes.plot([xs[0] - 0.3, xs[1] + 0.3], [level, level], color=colour, linewidth=3, alpha=0.5)


def _change_words(one: LastingChange) -> str:
    commits = f"{one.before['commit'][:7]}..{one.after['commit'][:7]}"
    return f"{percent_text(one.change.effect)}{' drift' if one.change.drift else ''}, {commits}"


def _mark_notes(axes: Axes, runs: Sequence[str], marks: Mapping[str, str]) -> None:
    for run, number in marks.items():
        x = runs.index(run) - 0.5
        axes.axvline(x, color=INK, linewidth=1, linestyle=":")
        axes.annotate(number, (x, 1), xycoords=axes.get_xaxis_transform(), fontsize=SMALL, **_AT_LINE)


def _handles(panels: Sequence[pd.DataFrame], colours: Colours) -> Iterator[Artist]:
    """A colour for each contender, the same in all panels."""
    names = {name for panel in panels for name in panel["contender"]}
    for name in sorted(names, key=contender_rank):
        label = short(text.contender_title(name))
        yield Line2D([], [], color=colours[name], label=label, **_POINTS)


def _run_axis(axes: Axes, cases: pd.DataFrame, runs: Sequence[str]) -> None:
    facts = cases.drop_duplicates("run").set_index("run").loc[list(runs)]
    labels = [
        f"{commit[:7]}{'*' if dirty else ''}\n{at:%Y-%m-%d}"
        for commit, dirty, at in zip(facts["commit"], facts["dirty"], facts["datetime"], strict=True)
    ]
    every = -(-len(runs) // _MOST_RUN_LABELS)
    ticks = range(len(runs) - 1, -1, -every)  # the newest run is always named
    axes.set_xticks(list(ticks), [labels[i] for i in ticks])
    axes.tick_params(axis="x", labelbottom=True, labelsize=SMALL - 1)
    axes.set_xlim(-0.6, len(runs) - 0.4)
