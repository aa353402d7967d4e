"""What a comparison writes beside its JSON: Markdown, a page, JUnit XML; and which files it may replace."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gate.comparison import Comparison
from benchmarks.gate.judge import control_drift, undisturbed
from benchmarks.gate.work import CONTROL
from gptloop.report import ReportError, write_files
from gptloop.report.budgets import Budgets
from gptloop.report.explanation_text import explanations_markdown
from gptloop.report.gate_page import gate_html
from gptloop.report.junit import junit_error, junit_xml
from gptloop.report.machine import Machine
from gptloop.report.mark import MARK, check_replaceable
from gptloop.report.markdown import escape
from gptloop.report.records import read_record
from gptloop.report.text import duration_text, hardware_text
from gptloop.report.verdict_text import verdicts_table, verdicts_text
from gptloop.report.verdicts import percent_text

TITLE = "Regression gate: change against base"


class Outputs:
    """The files of one comparison.

    Args:
        record: Where the raw pairs and verdicts are saved.
        markdown: Where what is printed is saved, if at all.
        html: Where the page is.
        junit: Where JUnit XML is.
    """

    def __init__(self, record: Path, *, markdown: Path | None, html: Path | None, junit: Path | None):
        self._record, self._markdown, self._html, self._junit = record, markdown, html, junit

    def check(self) -> None:
        """Refuse to replace anything but what an earlier comparison wrote.

        Raises:
            ReportError: If something else stands in the place of one, or two have one place.
        """
        others = [path for path in (self._markdown, self._html, self._junit) if path]
        for path in (self._record, *others):
            if sum(path.resolve() == other.resolve() for other in (self._record, *others)) > 1:
                raise ReportError(f"{path}: cannot hold two of --output, --markdown, --html and --junit")
        if not self._record.parent.is_dir():
            raise ReportError(f"{self._record.parent}: no such folder")
        if os.path.lexists(self._record) and not _is_record(self._record):
            raise ReportError(
                f"{self._record}: stands there already, and is no saved comparison: name another --output"
            )
        for path in others:
            check_replaceable(path)

    def write(self, record: Mapping[str, Any], found: Comparison, here: Machine, budgets: Budgets) -> str:
        """Write what was asked for.

        Returns:
            The Markdown, to be printed.
        """
        facts = _facts(record, here, budgets)
        text = markdown(facts, found, budgets)
        html = gate_html(TITLE, facts, found.verdicts, found.explanations)
        self._write(f"<!-- {MARK} -->\n{text}\n".encode(), html.encode(), junit_xml(found.verdicts))
        return text

    def write_failure(self, error: BaseException) -> None:
        """Say in each file but the record that nothing was judged."""
        reason = f"The gate ended before it could judge ({type(error).__name__}: {error})."
        text = f"<!-- {MARK} -->\n# {TITLE}\n\n**{escape(reason)} That is not a pass.**\n"
        page = gate_html(TITLE, [reason], [], [])
        self._write(text.encode(), page.encode(), junit_error(reason))

    def _write(self, text: bytes, page: bytes, junit: bytes) -> None:
        for path, content in ((self._markdown, text), (self._html, page), (self._junit, junit)):
            if path:
                write_files(path.parent, {path.name: content})


def _is_record(path: Path) -> bool:
    return path.is_file() and read_record(path).values.get("gptloop_kind") == "change"


def markdown(facts: Sequence[str], found: Comparison, budgets: Budgets) -> str:
    """What a person reads of a comparison."""
    parts = [
        f"# {TITLE}",
        verdicts_text(found.verdicts),
        *map(escape, facts),
        verdicts_table(found.verdicts),
        explanations_markdown(found.explanations),
        "A regression is an effect above the noise floor (calibrated on this machine by `python -m benchmarks.prove`, "
        "else assumed) whose 95 % interval excludes the budget; `missing` and `unstable` are never a pass. Budgets: "
        f"`{os.path.relpath(budgets.path)}`.",
    ]
    return "\n\n".join(part for part in parts if part)


def _facts(record: Mapping[str, Any], here: Machine, budgets: Budgets) -> list[str]:
    """What was measured, a paragraph each, as plain text."""
    base, change = (record[side] for side in ("base", "change"))
    dirty = " with uncommitted changes" if change["dirty"] else ""
    pairs = record["pairs"]
    again = f" ({record['wanted']} could not be judged)" if len(pairs) > record["wanted"] else ""
    facts = [
        f"ONNX loop of {change['id'][:10]}{dirty} against {base['id'][:10]}, {len(pairs)} pairs of fresh processes"
        f"{again}, {record['rounds']} rounds of alternating calls each, seeded random weights; {hardware_text(here)}.",
        *(["Tiny models (--smoke): the times mean nothing."] if record["smoke"] else []),
    ]
    if pairs:
        middle_s, drift = control_drift(pairs)
        aside = len(pairs) - len(undisturbed(pairs, budgets))
        facts.append(
            f"Control: the PyTorch loop ({CONTROL.name}) took {duration_text(middle_s)}; from process to process it "
            f"moved by up to {percent_text(drift)[1:]} (limit {percent_text(np.log1p(budgets.drift))[1:]}"
            f"{f', {aside} of {len(pairs)} pairs by more' if aside else ''})."
        )
    return facts
