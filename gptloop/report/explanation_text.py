"""An explanation as a person reads it, in Markdown, and the cells that the page shows as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptloop.report.markdown import escape, table
from gptloop.report.text import DASH, bytes_text

OPERATOR_HEADERS = ("operator", "slower by", "base", "change", "runs, base", "runs, change")
SHAPE_HEADERS = ("operator", "reads", *OPERATOR_HEADERS[1:])
MEMORY_HEADERS = ("memory", "base", "change")
_MEMORY = {"arena_bytes": "ONNX Runtime's arena, most in use", "peak_memory_bytes": "the process, at its peak"}


def explanations_markdown(explanations: Sequence[Mapping[str, Any]]) -> str:
    """A section of the gate's page; nothing where nothing was explained."""
    if not explanations:
        return ""
    return "\n\n".join(["## What changed", *map(_one, explanations)])


def operator_cells(found: Mapping[str, Any]) -> list[list[str]]:
    """Time by operator: rows of `OPERATOR_HEADERS`."""
    return [[row["operator"], *_cells(row)] for row in found["operators"]]


def shape_cells(found: Mapping[str, Any]) -> list[list[str]]:
    """Time by operator and what it reads: rows of `SHAPE_HEADERS`."""
    return [[row["operator"], row["inputs"] or DASH, *_cells(row)] for row in found["shapes"]]


def memory_cells(found: Mapping[str, Any]) -> list[list[str]]:
    """Rows of `MEMORY_HEADERS`."""
    rows = []
    for name, words in _MEMORY.items():
        counts = (found["memory"][name][side] for side in ("base", "change"))
        rows.append([words, *(DASH if count is None else bytes_text(count) for count in counts)])
    return rows


def profiled_text(found: Mapping[str, Any]) -> str:
    """What was profiled, and what the profiler makes of times."""
    return (
        f"One call under ONNX Runtime's profiler took {_ms(found['base_s'])} in the base and {_ms(found['change_s'])} "
        "in the change. The profiler takes time itself, most of all with many small nodes."
    )


def _one(found: Mapping[str, Any]) -> str:
    causes = "\n".join(f"- {escape(cause)}" for cause in found["culprits"])
    tables = [
        table(OPERATOR_HEADERS, operator_cells(found), "lrrrrr"),
        table(SHAPE_HEADERS, shape_cells(found), "llrrrrr"),
        table(MEMORY_HEADERS, memory_cells(found), "lrr"),
    ]
    folded = "\n\n".join(
        ["<details>", "<summary>Time by operator, by shape, and memory</summary>", *tables, "</details>"]
    )
    return "\n\n".join([f"### {escape(found['case'])}", causes, escape(profiled_text(found)), folded])


def _cells(row: Mapping[str, Any]) -> list[str]:
    base, change = row["base"], row["change"]
    slower = f"{row['slower_s'] * 1e3:+.3f} ms"
    return [slower, _ms(base["seconds"]), _ms(change["seconds"]), f"{base['runs']:,}", f"{change['runs']:,}"]


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f} ms"
