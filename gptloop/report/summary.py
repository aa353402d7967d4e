"""The summary that a person pastes into a pull request: the tables of every machine as Markdown."""

import textwrap

import pandas as pd

from gptloop.report.markdown import escape, table
from gptloop.report.tables import DEFINITIONS, SPEEDUP_HEADERS, TABLES, case_cells, speedup_tables
from gptloop.report.text import (
    hardware_text,
    of_random_text,
    run_lines,
    sampling_text,
    tokens_text,
    versions_text,
    weights_text,
)


def summary_markdown(compared: pd.DataFrame, *sections: str) -> str:
    """The summary that a person pastes into a pull request, in GitHub's Markdown.

    Args:
        compared: The frame of `compare.compare_cases`.
        sections: Markdown that comes before the tables, such as the verdicts.
    """
    machines = [_machine_section(cases) for _, cases in compared.groupby("fingerprint", sort=False)]
    return "\n\n".join(["# gptloop benchmark report", *sections, *machines, _how_to_read()]) + "\n"


def _how_to_read() -> str:
    bullets = [
        textwrap.fill(f"- **{word}** {meaning}", 120, subsequent_indent="  ", break_on_hyphens=False)
        for word, meaning in DEFINITIONS.items()
    ]
    return "\n".join(["## How to read this", "", *bullets])


def _machine_section(cases: pd.DataFrame) -> str:
    of_random = of_random_text(cases)
    parts = [_machine_facts(cases), *_speedup_sections(cases, of_random)]
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


def _machine_facts(cases: pd.DataFrame) -> str:
    machine = cases["machine"].iloc[0]
    lines = [f"## {escape(hardware_text(machine))}", "", f"- Weights: {_weights_line(cases)}"]
    lines.append(f"- Versions: {escape(versions_text(machine))}")
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
        sections += [title, table(SPEEDUP_HEADERS, lines, "llrrrr")]
    return sections
