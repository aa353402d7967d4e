"""Plain text as GitHub's Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """A Markdown table with its pipes aligned.

    Args:
        headers: The first line, plain text.
        rows: Cells as plain text; whatever Markdown would take for markup is escaped here.
        alignment: `l` or `r` for each column.
    """
    lines = [[escape(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [f"{'-' * (width - 1)}{'-' if side == 'l' else ':'}" for width, side in zip(widths, alignment, strict=True)]
    head, *body = [" | ".join(map(_justified, line, widths, alignment)) for line in lines]
    return "\n".join(f"| {line} |" for line in (head, " | ".join(rule), *body))


def escape(text: str) -> str:
    """Plain text as Markdown that renders as that text, in a table cell too (GitHub also reads `$` and `~`)."""
    return re.sub(r"([\\`*|<>~$&#]|\](?=[(\[])|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _justified(cell: str, width: int, side: str) -> str:
    return cell.ljust(width) if side == "l" else cell.rjust(width)
