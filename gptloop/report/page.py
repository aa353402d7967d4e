"""The page: one HTML file that needs nothing else, made from the frame, the charts and, where there are any, verdicts.

Knows the template's sections; forms no ratio and words no number (`text` does). All that comes from a saved run is
escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gptloop.report import text
from gptloop.report.answers import answers
from gptloop.report.chart_data import data_link
from gptloop.report.charts.palette import contender_colours
from gptloop.report.compare import BASELINE, precision_rank
from gptloop.report.inline_svg import inline_svg
from gptloop.report.results import newest_machine
from gptloop.report.small_multiples import panels
from gptloop.report.tables import DEFINITIONS, SPEEDUP_HEADERS, TABLES, Table, speedup_tables
from gptloop.report.trend import Trend
from gptloop.report.trend_words import ALIGNMENT, CAPTION, HEADERS, trend_cells, trend_remarks

_SPEEDUP_ORDER = [SPEEDUP_HEADERS.index(name) for name in SPEEDUP_HEADERS[2:]]
_SPEEDUP_ORDER.sort(key=lambda i: SPEEDUP_HEADERS[i] != "speedup")  # beside the case, where a phone still shows it

_CHARTS = {
    "history": "Time by run: a point is the median of one saved run of this machine, against the median of them all, "
    "its whisker the range of the rounds. Lower is faster; shaded where a gated case changed for good; from a dotted "
    "line on, runs were measured in another way.",
    "speedup": "Speedup over the PyTorch loop, by size and workload: a bar is the median of the paired rounds, its "
    "whisker their range. Longer is faster.",
}
_MORE_CHARTS = {
    "ladder": "Speedup over the PyTorch loop of every contender, case by case: the medians of the paired rounds. "
    "Longer is faster.",
    "tokens_per_s": "New tokens per second of all rows together. Longer is faster.",
    "latency": "Time to first token, and time per output token after it. Shorter is faster.",
}


def page_html(
    compared: pd.DataFrame,
    charts: Mapping[str, bytes],
    verdicts: Sequence[Mapping[str, Any]] | None = None,
    *,
    history: pd.DataFrame | None = None,
    trends: Sequence[Trend] = (),
    left_out: Sequence[str] = (),
) -> str:
    """The report as one HTML page with its charts inside.

    Args:
        compared: The frame of `compare.compare_cases`, of the newest run of each case.
        charts: SVG files by path, `charts/<kind>-<fingerprint>.svg`; others are passed over.
        verdicts: What the gate says of each case, if it was asked: `case`, `verdict`, `reason`, `effect` (change of
            time as a fraction, or None), `interval` (its bounds, or Nones), `budget` and `noise_floor` (fractions, the
            last one or None).
        history: As `compared`, of all runs: the numbers behind the history.
        trends: Of `trend.find_trends`.
        left_out: Runs that are no part of it, and why, a line each.

    Returns:
        HTML that asks for no other file, the same for the same arguments.
    """
    environment = Environment(
        loader=PackageLoader("gptloop.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"percent": _percent, "code": _code}
    script = (files("gptloop.report") / "templates" / "report.js").read_text(encoding="utf-8")
    newest = newest_machine(compared)["machine"].iloc[0].slug
    colours = contender_colours(compared)
    all_runs = compared if history is None else history
    return environment.get_template("report.html").render(
        machines=[
            _machine(
                cases,
                all_runs[all_runs["fingerprint"] == fingerprint],
                charts,
                [trend for trend in trends if trend.fingerprint == fingerprint],
                colours,
                _gate(verdicts) if fingerprint == newest else None,
            )
            for fingerprint, cases in compared.groupby("fingerprint", sort=False)
        ],
        newest=newest,
        verdicts=verdicts,
        left_out=left_out,
        choices_of=_choices(compared),
        definitions=DEFINITIONS,
        trend_columns=list(zip(HEADERS, ALIGNMENT, strict=True)),
        trend_caption=CAPTION,
        speedup_columns=[("case", "l"), *((SPEEDUP_HEADERS[i], "r") for i in _SPEEDUP_ORDER)],
        speedup_order=_SPEEDUP_ORDER,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _choices(compared: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """What the filter offers: values and words."""
    machines = {machine.slug: text.hardware_text(machine) for machine in compared["machine"]}
    precisions = sorted(compared["precision"].unique(), key=precision_rank)
    return {
        "machine": list(machines.items()),
        "size": [(size, size) for size in dict.fromkeys(compared["size"])],
        "precision": [(precision, precision) for precision in precisions],
    }


def _machine(
    cases: pd.DataFrame,
    history: pd.DataFrame,
    charts: Mapping[str, bytes],
    trends: Sequence[Trend],
    colours: Mapping[str, str],
    gate: str | None,
) -> dict[str, Any]:
    """What the template shows of one machine."""
    machine = cases["machine"].iloc[0]

    def shown(captions: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            {
                "caption": caption,
                "svg": inline_svg(charts[name], f"{kind}-{machine.slug}", f"Chart. {caption}"),
                "data": data_link(kind, history if kind == "history" else cases),
                "file": f"{kind}-{machine.slug}.csv",
            }
            for kind, caption in captions.items()
            if (name := f"charts/{kind}-{machine.slug}.svg") in charts
        ]

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
        "charts": shown(_CHARTS),
        "more_charts": shown(_MORE_CHARTS),
        "tables": [_table(one, cases) for one in TABLES],
    }


def _gate(verdicts: Sequence[Mapping[str, Any]] | None) -> str | None:
    """What the verdicts add up to, in a few words; None where the gate was not asked."""
    if not verdicts:
        return None
    counts = Counter(str(one["verdict"]) for one in verdicts)
    return f"Gate: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}."


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


def _percent(fraction: float | None, *, signed: bool = False) -> str:
    if fraction is None:
        return text.DASH
    return f"{fraction:{'+' if signed else ''}.1%}".replace("%", " %")


def _code(words: str) -> Markup:
    """Plain words whose `backticks` are code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words)))
