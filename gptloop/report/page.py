"""The page: one HTML file that needs nothing else, made from the frame, the charts and, where there are any, verdicts.

Knows the template's sections and how a chart of matplotlib's becomes a part of the page; forms no ratio and words no
number (`text` does). All that comes from a saved run is escaped by the template.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from gptloop.report import text
from gptloop.report.charts.speedup import speedup_panels
from gptloop.report.compare import BASELINE, CANDIDATE
from gptloop.report.tables import DEFINITIONS, SPEEDUP_HEADERS, TABLES, Table, speedup_tables

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

# The charts' greys and darkest colour, as the page's variables, which have a dark value, too.
_THEME = {
    "#000000": "var(--ink)",
    "#333333": "var(--ink)",
    "#555555": "var(--muted)",
    "#888888": "var(--axis)",
    "#e4e4e4": "var(--line)",
    "#ffffff": "var(--surface)",
    "#0072b2": "var(--blue)",
    "'DejaVu Sans'": "var(--font)",
}

_SPEEDUP_ORDER = [SPEEDUP_HEADERS.index("speedup"), 2, 3, SPEEDUP_HEADERS.index("rounds")]

_CHARTS = {
    "speedup": "Speedup over the PyTorch loop, by size and workload: a bar is the median of the paired rounds, its "
    "whisker their range. Longer is faster.",
    "ladder": "Speedup over the PyTorch loop of every contender, case by case: the medians of the paired rounds. "
    "Longer is faster.",
    "history": "Speedup by run: a point is the median of one saved run of this machine, its whisker the range of the "
    "paired rounds. Higher is faster; from a dotted line on, runs were measured in another way.",
    "tokens_per_s": "New tokens per second of all rows together. Longer is faster.",
    "latency": "Time to first token, and time per output token after it. Shorter is faster.",
}


def page_html(
    compared: pd.DataFrame, charts: Mapping[str, bytes], verdicts: Sequence[Mapping[str, Any]] | None = None
) -> str:
    """The report as one HTML page with its charts inside.

    Args:
        compared: The frame of `compare.compare_cases`.
        charts: SVG files by path, `charts/<kind>-<fingerprint>.svg`; others are passed over.
        verdicts: What the gate says of each case, if it was asked: `case`, `verdict`, `reason`, `effect` (change of
            time as a fraction, or None), `interval` (its bounds, or Nones), `budget` and `noise_floor` (fractions, the
            last one or None).

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
    return environment.get_template("report.html").render(
        machines=[_machine(cases, charts) for _, cases in compared.groupby("fingerprint", sort=False)],
        verdicts=verdicts,
        definitions=DEFINITIONS,
        # The case in one column and the speedup beside it, where a phone still shows it.
        speedup_columns=[("case", "l"), *((SPEEDUP_HEADERS[i], "r") for i in _SPEEDUP_ORDER)],
        speedup_order=_SPEEDUP_ORDER,
    )


def _machine(cases: pd.DataFrame, charts: Mapping[str, bytes]) -> dict[str, Any]:
    """What the template shows of one machine."""
    machine = cases["machine"].iloc[0]
    return {
        "slug": machine.slug,
        "title": text.hardware_text(machine),
        "facts": {
            "Weights": text.weights_text(cases),
            "Work": f"{text.tokens_text(cases)}, {text.sampling_text(cases)}",
            "Versions": text.versions_text(machine),
            "Runs": text.run_lines(cases),
        },
        "of_random": text.of_random_text(cases),
        "glance": _glance(cases),
        "speedups": speedup_tables(cases),
        "charts": [
            {"caption": caption, "svg": _inline(charts[name], f"{kind}-{machine.slug}", f"Chart. {caption}")}
            for kind, caption in _CHARTS.items()
            if (name := f"charts/{kind}-{machine.slug}.svg") in charts
        ],
        "tables": [_table(one, cases) for one in TABLES],
    }


def _glance(cases: pd.DataFrame) -> list[dict[str, Any]]:
    """The speedups of each of gptloop's own contenders in few words, for each pair of precisions."""
    own = cases[cases["speedup"].notna() & cases["contender"].str.startswith(CANDIDATE)]
    found = []
    for rows in speedup_panels(own):
        first = rows.iloc[0]
        low, high = (text.ratio_text(x) for x in (rows["speedup"].min(), rows["speedup"].max()))
        contender = f"{text.contender_title(first['contender'])} ({first['precision']})"
        found.append(
            {
                "speedup": low if low == high else f"{low[:-1]} to {high}",
                "of": f"{contender}, against PyTorch in {first['baseline_precision']}",
                "cases": f"{len(rows)} {'case' if len(rows) == 1 else 'cases'}, median speedups",
            }
        )
    return found


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
                {"cells": cells(row), "baseline": row["contender"] == BASELINE} for row in case.to_dict("records")
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


def _inline(svg: bytes, prefix: str, label: str) -> Markup:
    """A chart as an element of the page: in the page's colours and type, as wide as it is let, with ids of its own."""
    root = ET.fromstring(svg)
    for parent in root.iter():
        for child in [child for child in parent if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style")]:
            parent.remove(child)
    named = set(re.findall(r"#([^)\"]+)", svg.decode()))
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        for name, value in list(element.attrib.items()):
            if name == "id":
                if value in named:
                    element.set("id", f"{prefix}-{value}")
                else:
                    del element.attrib["id"]
            elif name == f"{{{_XLINK}}}href":
                del element.attrib[name]
                element.set("href", f"#{prefix}-{value.removeprefix('#')}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{prefix}-"))
            elif name == "style":
                element.set(name, _themed(value))
    root.attrib = {"viewBox": root.get("viewBox", ""), "role": "img", "aria-label": label}
    return Markup(ET.tostring(root, encoding="unicode"))


def _themed(style: str) -> str:
    return re.sub("|".join(_THEME), lambda found: _THEME[found[0]], style)
