"""Figures of a frame's machines as image files."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from gptloop.report.charts.bars import ladder_figure, latency_figure, tokens_per_s_figure
from gptloop.report.charts.canvas import styled
from gptloop.report.charts.history import history_figure
from gptloop.report.charts.palette import contender_colours, workload_colours
from gptloop.report.charts.speedup import speedup_figure
from gptloop.report.trend import Trend


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


def render_history(compared: pd.DataFrame, notes: Mapping[str, str], trends: Sequence[Trend] = ()) -> dict[str, bytes]:
    """The times of all runs of each machine, as PNG and SVG.

    Args:
        compared: The frame of `compare.compare_cases`, of all runs.
        notes: Of `notes.read_notes`.
        trends: Of `trend.find_trends`.

    Returns:
        Contents by path below the report's folder: `charts/history-<fingerprint>.png` and `.svg`.
    """
    files = {}
    for fingerprint, cases in compared.groupby("fingerprint", sort=False):
        own = [trend for trend in trends if trend.fingerprint == fingerprint]
        figure = history_figure(cases, notes, contender_colours(compared), own)
        files[f"charts/history-{fingerprint}.png"] = _rendered(figure, "png", {"Software": None})
        files[f"charts/history-{fingerprint}.svg"] = _rendered(figure, "svg", {"Date": None, "Creator": None})
    return files


def _rendered(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    with styled():
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return file.getvalue()
