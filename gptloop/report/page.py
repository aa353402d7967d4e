"""The page: one HTML file that needs nothing else, made from the frame, the charts and, where there are any, verdicts.

Knows the template's sections; forms no ratio and words no number (`text` does). All that comes from a saved run is
escaped by the template.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd
from markupsafe import Markup

from gptloop.report import text
from gptloop.report.charts.palette import contender_colours
from gptloop.report.compare import precision_rank
from gptloop.report.definitions import DEFINITIONS
from gptloop.report.page_section import machine_section
from gptloop.report.results import newest_machine
from gptloop.report.tables import SPEEDUP_HEADERS
from gptloop.report.template import open_template
from gptloop.report.trend import Trend
from gptloop.report.trend_words import ALIGNMENT, CAPTION, HEADERS

_SPEEDUP_ORDER = [SPEEDUP_HEADERS.index(name) for name in SPEEDUP_HEADERS[2:]]
_SPEEDUP_ORDER.sort(key=lambda i: SPEEDUP_HEADERS[i] != "speedup")  # beside the case, where a phone still shows it


_SAME_FOR_ALL = {
    "definitions": DEFINITIONS,
    "trend_columns": list(zip(HEADERS, ALIGNMENT, strict=True)),
    "trend_caption": CAPTION,
    "speedup_columns": [("case", "l"), *((SPEEDUP_HEADERS[i], "r") for i in _SPEEDUP_ORDER)],
    "speedup_order": _SPEEDUP_ORDER,
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
    newest = newest_machine(compared)["machine"].iloc[0].slug
    all_runs = compared if history is None else history
    script = (files("gptloop.report") / "templates" / "report.js").read_text(encoding="utf-8")
    template = open_template("report.html")
    return template.render(
        machines=list(_sections(compared, all_runs, charts, trends, {newest: _gate(verdicts)})),
        newest=newest,
        verdicts=verdicts,
        left_out=left_out,
        choices_of=_choices(compared),
        **_SAME_FOR_ALL,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _sections(
    compared: pd.DataFrame,
    history: pd.DataFrame,
    charts: Mapping[str, bytes],
    trends: Sequence[Trend],
    gate: Mapping[str, str | None],
) -> Iterator[dict[str, Any]]:
    colours = contender_colours(compared)
    for fingerprint, cases in compared.groupby("fingerprint", sort=False):
        name = str(fingerprint)
        own = [trend for trend in trends if trend.fingerprint == name]
        yield machine_section(cases, history[history["fingerprint"] == name], charts, own, colours, gate.get(name))


def _choices(compared: pd.DataFrame) -> dict[str, list[tuple[str, str]]]:
    """What the filter offers: values and words."""
    machines = {machine.slug: text.hardware_text(machine) for machine in compared["machine"]}
    precisions = sorted(compared["precision"].unique(), key=precision_rank)
    return {
        "machine": list(machines.items()),
        "size": [(size, size) for size in dict.fromkeys(compared["size"])],
        "precision": [(precision, precision) for precision in precisions],
    }


def _gate(verdicts: Sequence[Mapping[str, Any]] | None) -> str | None:
    """What the verdicts add up to, in a few words; None where the gate was not asked."""
    if not verdicts:
        return None
    counts = Counter(str(one["verdict"]) for one in verdicts)
    return f"Gate: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}."
