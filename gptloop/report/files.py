"""Every file of a report, as contents by path: summary, page, JSON for machines, charts. Knows their names only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gptloop.report.baseline import Judged
from gptloop.report.charts import render_charts, render_history
from gptloop.report.page import page_html
from gptloop.report.trend import Trend

# Beside the charts, directly in the report's folder.
OUTPUTS = ("summary.md", "report.html", "report.json", "verdicts.json")


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a report shows.

    Attributes:
        compared: The frame of `compare.compare_cases`, of the newest run of each case.
        history: The same of all runs.
        trends: Of `trend.find_trends`.
        notes: Of `notes.read_notes`.
        left_out: Runs that are no part of it, and why, a line each.
    """

    compared: pd.DataFrame
    history: pd.DataFrame
    trends: Sequence[Trend] = ()
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_out: Sequence[str] = ()


def report_files(findings: Findings, summary: str, judged: Judged | None = None) -> dict[str, bytes]:
    """The files of a report, by path below its folder.

    Args:
        findings: What is shown.
        summary: The Markdown of `summary.summary_markdown`.
        judged: The gate's verdicts, where it was asked.
    """
    drawn = render_charts(findings.compared)
    charts = {**drawn, **render_history(findings.history, findings.notes, findings.trends)}
    verdicts = json.dumps(judged.to_json(), indent=1) + "\n" if judged else None
    page = page_html(
        findings.compared,
        charts,
        [one.to_json() for one in judged.verdicts] if judged else None,
        history=findings.history,
        trends=findings.trends,
        left_out=findings.left_out,
    )
    return {
        **charts,
        **({"verdicts.json": verdicts.encode()} if verdicts else {}),
        "summary.md": summary.encode(),
        "report.json": report_json(findings.compared, findings.trends).encode(),
        "report.html": page.encode(),
    }


def report_json(compared: pd.DataFrame, trends: Sequence[Trend] = ()) -> str:
    """The compared rows for machines: the columns of `compare.compare_cases`, seconds and bytes, null where unknown.

    `machine` is its fingerprint, whose facts stand under `machines`; `trends` has the lasting changes of gated cases.
    """
    machines = {machine.slug: dataclasses.asdict(machine) for machine in compared["machine"]}
    for facts in machines.values():
        facts["versions"] = dict(facts["versions"])
    rows = compared.drop(columns="machine").rename(columns={"fingerprint": "machine"})
    content = {
        "gptloop_kind": "report",
        "schema": 1,
        "machines": machines,
        "rows": [{name: _plain(value) for name, value in row.items()} for row in rows.to_dict("records")],
        "trends": [trend.to_json() for trend in trends],
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value of the frame as JSON has it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value
