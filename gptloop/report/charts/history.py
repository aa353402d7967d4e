"""Speedup by run: a line for each piece of work, over the saved runs of one machine."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from gptloop.report import text
from gptloop.report.charts.canvas import INK, SMALL, add_title, left_out, new_figure, say_nothing_to_show, short, styled
from gptloop.report.charts.palette import Colours, size_colours
from gptloop.report.charts.speedup import legible_panels, line_at_one, panel_title
from gptloop.report.compare import CANDIDATE

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_MOST_RUN_LABELS = 12
_MOST_LINES = 40
_WORK = ("size", "workload", "prompt_len", "max_new_tokens", "temperature", "top_k", "weights", "workload_title")
_HISTORY_NOTE = (
    "Points: medians of a run, whiskers: min to max of its paired rounds. Runs of this machine only, in order of date, "
    "evenly spaced; * uncommitted changes. It falls, too, when the PyTorch loop gets faster"
)
_AT_LINE: dict[str, Any] = {"xytext": (2, -2), "textcoords": "offset points", "va": "top", "color": INK}


def history_figure(cases: pd.DataFrame, notes: Mapping[str, str]) -> Figure:
    """Speedup of the ONNX loop by run, a line for each piece of work and a panel for each precision.

    Args:
        cases: Rows of all runs of one machine, whose hardware and versions are equal in all of them.
        notes: What changed in how runs are measured, by the first run that has it; runs of others are passed over.
    """
    shown = cases[cases["speedup"].notna() & cases["contender"].str.startswith(CANDIDATE)]
    panels = legible_panels(shown)
    runs = list(dict.fromkeys(cases.sort_values(["datetime", "run"])["run"]))
    all_lines = _lines(shown)
    lines = dict(itertools.islice(all_lines.items(), _MOST_LINES))
    marks = dict(zip((run for run in runs if run in notes and panels), map(str, itertools.count(1)), strict=False))
    colours = size_colours(shown)
    with styled():
        height = 2.4 + 2.3 * max(1, len(panels)) + 0.2 * (len(lines) // 2 + len(marks))
        measured = [f"{number}: {notes[run]}" for run, number in marks.items()]
        beyond = left_out(len(all_lines), len(lines), "lines")
        figure = new_figure(9.0, height, cases, [_HISTORY_NOTE], measured, beyond)
        all_axes = figure.subplots(max(1, len(panels)), squeeze=False, sharex=True).ravel()
        handles: dict[str, Artist] = {}
        for axes, panel in zip(all_axes, panels, strict=False):
            _history_panel(axes, panel, runs, lines, colours, handles)
            for run, number in marks.items():
                x = runs.index(run) - 0.5
                axes.axvline(x, color=INK, linewidth=1, linestyle=":")
                axes.annotate(number, (x, 1), xycoords=axes.get_xaxis_transform(), fontsize=SMALL, **_AT_LINE)
        if panels:
            _run_axis(all_axes[-1], cases, runs)
            handles["1"] = line_at_one([])
        else:
            say_nothing_to_show(all_axes[0], "no run holds both the baseline and the ONNX loop")
        add_title(figure, "Speedup over the KV-cached PyTorch loop, by run", list(handles.values()))
    return figure


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
        line = Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1, label=short(label, 64))
        handles.setdefault(label, line)
    axes.set_title(panel_title(panel))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_ylim(0, 1.1 * max(1.0, panel["speedup_max"].max()))
    axes.add_line(line_at_one([0, 1], axes.get_yaxis_transform()))
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
