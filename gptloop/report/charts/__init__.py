"""The report's charts: frames in, matplotlib figures and image files out.

They know colours and positions; they do not form a ratio (`compare` did) nor word a number (`text` does). They use
matplotlib's object interface only, so they need no display and leave no state. The same frame gives the same bytes.
"""

from gptloop.report.charts.bars import ladder_figure, latency_figure, tokens_per_s_figure
from gptloop.report.charts.history import history_figure
from gptloop.report.charts.palette import contender_colours, workload_colours
from gptloop.report.charts.render import render_charts, render_history
from gptloop.report.charts.speedup import speedup_figure

__all__ = [
    "contender_colours",
    "history_figure",
    "ladder_figure",
    "latency_figure",
    "render_charts",
    "render_history",
    "speedup_figure",
    "tokens_per_s_figure",
    "workload_colours",
]
