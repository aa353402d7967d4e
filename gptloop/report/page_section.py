"""What the page shows of one machine, as the template wants it: answers, panels, trend, charts, tables, facts.

Knows which part comes from where; `page` knows the template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from gptloop.report import text
from gptloop.report.answers import answers
from gptloop.report.chart_data import data_link
from gptloop.report.contenders import BASELINE
from gptloop.report.inline_svg import inline_svg
from gptloop.report.small_multiples import panels
from gptloop.report.tables import TABLES, Table, speedup_tables
from gptloop.report.trend import Trend
from gptloop.report.trend_words import trend_cells, trend_remarks

_CHARTS = {
    "speedup": "Speedup over the PyTorch loop, by size and workload: a bar is the median of the paired rounds, its "
    "whisker their range. Longer is faster.",
    "history": "Time by run: a point is the median of one saved run of this machine, against the median of them all, "
    "its whisker the range of the rounds. Lower is faster; shaded where a gated case changed for good; from a dotted "
    "line on, runs were measured in another way.",
}
_MORE_CHARTS = {
    "ladder": "Speedup over the PyTorch loop of every contender, case by case: the medians of the paired rounds. "
    "Longer is faster.",
    "tokens_per_s": "New tokens per second of all rows together. Longer is faster.",
    "latency": "Time to first token, and time per output token after it. Shorter is faster.",
}


def machine_section(
    cases: pd.DataFrame,
    history: pd.DataFrame,
    charts: Mapping[str, bytes],
    trends: Sequence[Trend],
    colours: Mapping[str, str],
    gate: str | None,
) -> dict[str, Any]:
    """What the template shows of one machine.

    Args:
        cases: Its rows of the frame of `compare.compare_cases`, of the newest run of each case.
        history: The same of all runs.
        charts: SVG files by path.
        trends: Its gated cases'.
        colours: By contender.
        gate: What the gate says, where it was asked.
    """
    machine = cases["machine"].iloc[0]
    return {
        "slug": machine.slug,
        "title": text.hardware_text(machine),
        "answers": answers(cases, trends, gate),
        "grids": text.grids_text(cases),
        "facts": {
            "Weights": text.weights_text(cases),
            "Work": f"{text.tokens_text(cases)}, {text.sampling_text(cases)}",
            "Versions": text.versions_text(machine),
            "Runs": text.run_lines(cases),
        },
        "of_random": text.of_random_text(cases),
        "panels": panels(cases, colours),
        "panels_data": data_link("times", cases),
        "trend": trend_cells(trends),
        "trend_remarks": trend_remarks(trends),
        "speedups": speedup_tables(cases),
        "charts": _figures(_CHARTS, charts, cases, history),
        "more_charts": _figures(_MORE_CHARTS, charts, cases, history),
        "tables": [_table(one, cases) for one in TABLES],
    }


def _figures(
    captions: Mapping[str, str], charts: Mapping[str, bytes], cases: pd.DataFrame, history: pd.DataFrame
) -> list[dict[str, Any]]:
    slug = cases["machine"].iloc[0].slug
    return [
        {
            "caption": caption,
            "svg": inline_svg(charts[name], f"{kind}-{slug}", f"Chart. {caption}"),
            "data": data_link(kind, history if kind == "history" else cases),
            "file": f"{kind}-{slug}.csv",
        }
        for kind, caption in captions.items()
        if (name := f"charts/{kind}-{slug}.svg") in charts and (kind != "history" or history["run"].nunique() > 1)
    ]


def _table(table: Table, cases: pd.DataFrame) -> dict[str, Any]:
    """What the template shows of a table below its own heading; nothing if it has no rows."""
    rows = table.rows(cases)
    return {
        "title": table.title,
        "caption": table.caption,
        "columns": list(zip(table.headers, table.alignment, strict=True)),
        "folded": table.folded,
        "groups": [] if rows.empty else _by_case(rows, table.cells, cases),
    }


def _by_case(rows: pd.DataFrame, cells: Callable[[text.Row], list[str]], cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table in groups, with what all rows of a group share as its heading, among all the machine's cases."""
    return [
        {
            "size": case["size"].iloc[0],
            "workload": text.workload_text(case.iloc[0].to_dict(), cases),
            "rows": [
                {"cells": cells(row), "baseline": row["contender"] == BASELINE, "precision": row["precision"]}
                for row in case.to_dict("records")
            ],
        }
        for _, case in rows.groupby("group", sort=False)
    ]
