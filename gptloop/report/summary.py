"""The summary that a person pastes into a pull request: the tables of every machine as Markdown."""

import textwrap
from collections.abc import Sequence

import pandas as pd

from gptloop.report.answers import answers
from gptloop.report.definitions import DEFINITIONS
from gptloop.report.markdown import escape, table
from gptloop.report.tables import SPEEDUP_HEADERS, TABLES, case_cells, speedup_tables
from gptloop.report.text import (
    grids_text,
    hardware_text,
    of_random_text,
    run_lines,
    sampling_text,
    tokens_text,
    versions_text,
    weights_text,
)
from gptloop.report.trend import Trend
from gptloop.report.trend_words import ALIGNMENT, CAPTION, HEADERS, trend_cells, trend_remarks


def summary_markdown(
    compared: pd.DataFrame, *sections: str, trends: Sequence[Trend] = (), left_out: Sequence[str] = ()
) -> str:
    """The summary that a person pastes into a pull request, in GitHub's Markdown.

    Args:
        compared: The frame of `compare.compare_cases`.
        sections: Markdown that comes before the tables, such as the verdicts.
        trends: Of `trend.find_trends`.
        left_out: Runs that are no part of it, and why, a line each.
    """
    machines = [
        _machine_section(cases, [trend for trend in trends if trend.fingerprint == fingerprint])
        for fingerprint, cases in compared.groupby("fingerprint", sort=False)
    ]
    if left_out:
        machines.append("\n".join(["## Left out", "", *(f"- {escape(line)}" for line in left_out)]))
    return "\n\n".join(["# gptloop benchmark report", *sections, *machines, _how_to_read()]) + "\n"


def _how_to_read() -> str:
    bullets = [
        textwrap.fill(f"- **{word}** {meaning}", 120, subsequent_indent="  ", break_on_hyphens=False)
        for word, meaning in DEFINITIONS.items()
    ]
    return "\n".join(["## How to read this", "", *bullets])


def _machine_section(cases: pd.DataFrame, trends: Sequence[Trend]) -> str:
    of_random = of_random_text(cases)
    parts = [_machine_facts(cases), _answers(cases, trends), *_trend_sections(trends)]
    parts += _speedup_sections(cases, of_random)
    for one in TABLES:
        if (rows := one.rows(cases)).empty:
            continue
        lines = [[*case_cells(row, cases), *one.cells(row)] for row in rows.to_dict("records")]
        shown = table(["size", "workload", *one.headers], lines, "ll" + one.alignment)
        title = one.title + of_random
        parts.append(_folded(title, shown) if one.folded else f"### {title}\n\n{shown}")
    return "\n\n".join(parts)


def _folded(title: str, shown: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{shown}\n\n</details>"


def _answers(cases: pd.DataFrame, trends: Sequence[Trend]) -> str:
    lines = []
    for one in answers(cases, trends):
        lines.append(f"- **{escape(one.question)}** {escape(one.words)}".rstrip())
        lines += [f"  - {escape(line)}" for line in one.grounds]
    return "\n".join(lines)


def _trend_sections(trends: Sequence[Trend]) -> list[str]:
    if not trends:
        return []
    remarks = [f"- {escape(remark)}" for remark in trend_remarks(trends)]
    shown = table(HEADERS, trend_cells(trends), ALIGNMENT)
    return ["### Trend", CAPTION + ".", shown, *(["\n".join(remarks)] if remarks else [])]


def _machine_facts(cases: pd.DataFrame) -> str:
    machine = cases["machine"].iloc[0]
    lines = [f"## {escape(hardware_text(machine))}", "", f"- Weights: {_weights_line(cases)}"]
    lines.append(f"- Versions: {escape(versions_text(machine))}")
    lines += [f"- {escape(words)}" for words in (grids_text(cases),) if words]
    lines += [f"- Run: {escape(line)}" for line in run_lines(cases)]
    lines.append(f"- Work: {tokens_text(cases)}, {sampling_text(cases)}")
    lines.append(f"- Charts: `charts/*-{machine.slug}.svg` (and `.png`)")
    return "\n".join(lines)


def _weights_line(cases: pd.DataFrame) -> str:
    words = escape(weights_text(cases))
    return f"**{words}: speed does not depend on the values**" if of_random_text(cases) else words


def _speedup_sections(cases: pd.DataFrame, of_random: str) -> list[str]:
    sections = []
    for precisions, lines in speedup_tables(cases).items():
        title = f"### Speedup over the KV-cached PyTorch loop, {escape(precisions)}{of_random}"
        sections += [title, table(SPEEDUP_HEADERS, lines, "llrrrrrr")]
    return sections
