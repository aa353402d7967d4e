"""What is said of trends: the table's cells, and whether it got worse in a sentence.

Finds nothing itself; percentages are changes of time, so more is slower.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gptloop.report.change_points import FEWEST
from gptloop.report.text import DASH, Row
from gptloop.report.trend import LastingChange, Trend
from gptloop.report.verdicts import percent_text

HEADERS = ("case", "runs", "lasting change of time", "last run before", "first run after", "PyTorch loop beside it")
ALIGNMENT = "lrrllr"
CAPTION = (
    "Where the time of a gated case changed for good, over all saved runs of this machine. The commit to blame lies "
    "after the last run before and up to the first run after. Where the PyTorch loop changed alike, it was the machine"
)


def trend_cells(trends: Sequence[Trend]) -> list[list[str]]:
    """Cells under `HEADERS`: a row for each change, or one that says that there is none."""
    rows = []
    for trend in trends:
        runs = f"{len(trend.history)}"
        if not trend.changes:
            rows.append([trend.case, runs, _nothing(trend), DASH, DASH, DASH])
        for one in trend.changes:
            control = DASH if one.control is None else percent_text(one.control)
            rows.append([trend.case, runs, change_text(one), run_text(one.before), run_text(one.after), control])
    return rows


def trend_remarks(trends: Sequence[Trend]) -> list[str]:
    """What a reader must know beside the table, a sentence each."""
    remarks = []
    for trend in trends:
        for one in trend.changes:
            if one.notes:
                where = "over that time" if one.change.drift else "there, too"
                remarks.append(f"{trend.case}: the way of measuring changed {where}: {'; '.join(one.notes)}.")
        if trend.other_work:
            words = "1 run" if trend.other_work == 1 else f"{trend.other_work} runs"
            remarks.append(f"{trend.case}: {words} measured other work under this name: no part of this history.")
    return remarks


def change_text(one: LastingChange) -> str:
    """Its size: `+5.2 % [+4.1 % to +6.3 %]`; of a drift, that it is one."""
    change = one.change
    size = f"{percent_text(change.effect)} [{percent_text(change.low)} to {percent_text(change.high)}]"
    return f"{size}, a drift" if change.drift else size


def run_text(row: Row) -> str:
    """A run by its commit and date."""
    return f"{row['commit'][:10]}{' (dirty)' if row['dirty'] else ''}, {row['datetime']:%Y-%m-%d}"


def worse_text(trends: Sequence[Trend]) -> tuple[str, str]:
    """Whether gated cases got worse for good: the answer in a word or two, and its grounds."""
    judged = [trend for trend in trends if len(trend.history) >= FEWEST]
    if not judged:
        return "Too early to tell", _too_early(trends)
    last = [(trend.case, trend.changes[-1]) for trend in judged if trend.changes]
    slower = [f"{case} {percent_text(one.change.effect)} by {run_text(one.after)}" for case, one in last if _worse(one)]
    faster = [f"{case} {percent_text(one.change.effect)}" for case, one in last if not _worse(one)]
    of = f"{len(judged)} gated {'case' if len(judged) == 1 else 'cases'}"
    if slower:
        return "Yes", f"{len(slower)} of {of}, by the last lasting change of each: {'; '.join(slower)}"
    beyond = f"; faster: {', '.join(faster)}" if faster else ""
    return "No", f"no lasting slowdown is the last change of any of {of}{beyond}"


def _too_early(trends: Sequence[Trend]) -> str:
    if not trends:
        return "no gated case has a history on this machine"
    most = max(len(trend.history) for trend in trends)
    words = f"a lasting change shows from {FEWEST} runs of a gated case on, and here are at most {most}"
    histories = [[row["median_s"] for row in trend.history] for trend in trends if len(trend.history) > 1]
    if not histories:
        return words
    effects = sorted(float(np.log(times_s[-1] / np.median(times_s[:-1]))) for times_s in histories)
    low, high = percent_text(effects[0]), percent_text(effects[-1])
    return f"{words}. Newest times against the medians of those before: {low if low == high else f'{low} to {high}'}"


def _worse(one: LastingChange) -> bool:
    return one.change.effect > 0


def _nothing(trend: Trend) -> str:
    return "none" if len(trend.history) >= FEWEST else f"too few runs, {FEWEST} are needed"
