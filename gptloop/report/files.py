"""Every file of a report, as contents by path: summary, page, JSON for machines, charts. Knows their names only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gptloop.report.baseline import Judged
from gptloop.report.charts import render_charts, render_history
from gptloop.report.compare import compare_cases
from gptloop.report.page import page_html

# Beside the charts, directly in the report's folder.
OUTPUTS = ("summary.md", "report.html", "report.json", "verdicts.json")


def report_files(
    runs: pd.DataFrame,
    compared: pd.DataFrame,
    summary: str,
    notes: Mapping[str, str],
    judged: Judged | None = None,
) -> dict[str, bytes]:
    """The files of a report, by path below its folder.

    Args:
        runs: The frame of `runs.read_runs`: of all runs, for the history.
        compared: The frame of `compare.compare_cases`, of the newest run of each case.
        summary: The Markdown of `summary.summary_markdown`.
        notes: Of `notes.read_notes`, for the history.
        judged: The gate's verdicts, where it was asked.

    Raises:
        ReportError: If the rounds of an old run cannot be paired.
    """
    charts = {**render_charts(compared), **render_history(compare_cases(runs), notes)}
    verdicts = json.dumps(judged.to_json(), indent=1) + "\n" if judged else None
    return {
        **charts,
        **({"verdicts.json": verdicts.encode()} if verdicts else {}),
        "summary.md": summary.encode(),
        "report.json": report_json(compared).encode(),
        "report.html": page_html(
            compared, charts, [one.to_json() for one in judged.verdicts] if judged else None
        ).encode(),
    }


def report_json(compared: pd.DataFrame) -> str:
    """The compared rows for machines: the columns of `compare.compare_cases`, seconds and bytes, null where unknown.

    `machine` is its fingerprint, whose facts stand under `machines`.
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
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """A value of the frame as JSON has it."""
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value
