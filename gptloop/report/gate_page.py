"""A comparison as one HTML page that needs nothing else: verdicts, and what changed where it was explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptloop.report.explanation_text import (
    MEMORY_HEADERS,
    OPERATOR_HEADERS,
    SHAPE_HEADERS,
    memory_cells,
    operator_cells,
    profiled_text,
    shape_cells,
)
from gptloop.report.mark import MARK
from gptloop.report.template import open_template
from gptloop.report.verdict_text import HEADERS, conclusion_text, verdict_cells
from gptloop.report.verdicts import Quantity, Verdict


def gate_html(
    title: str, facts: Sequence[str], verdicts: Sequence[Verdict], explanations: Sequence[Mapping[str, Any]]
) -> str:
    """The page.

    Args:
        title: Its heading, plain text.
        facts: What was measured, a paragraph each, plain text.
        verdicts: Of both quantities.
        explanations: Of `explanation.explain`.
    """
    return open_template("gate.html").render(
        mark=MARK,
        title=title,
        conclusion=conclusion_text(verdicts),
        facts=facts,
        columns=[(header, "l" if index < 2 else "r") for index, header in enumerate(HEADERS)],
        verdicts=[
            (quantity.value, [{"cells": verdict_cells(one), "reason": one.reason} for one in of_quantity])
            for quantity in Quantity
            if (of_quantity := [one for one in verdicts if one.quantity is quantity])
        ],
        explanations=[_shown(one) for one in explanations],
    )


def _shown(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "case": found["case"],
        "culprits": found["culprits"],
        "profiled": profiled_text(found),
        "tables": [
            ("Time by operator", OPERATOR_HEADERS, operator_cells(found)),
            ("Time by operator and shape", SHAPE_HEADERS, shape_cells(found)),
            ("Memory", MEMORY_HEADERS, memory_cells(found)),
        ],
    }
