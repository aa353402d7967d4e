"""Parts of hand-written pages that the report writes: what stands between two marks is what the saved runs say.

Knows marks and the way from a page to a chart; `results` knows what is said, and the gate what its proof says.
"""

import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from gptloop.report.disk import read_text, write_files
from gptloop.report.errors import ReportError
from gptloop.report.markdown import escape
from gptloop.report.results import newest_machine, other_machines_markdown, results_markdown
from gptloop.report.text import hardware_text

RESULTS, RECORDS = "results", "records"

_NO_BRACKETS = str.maketrans("[]", "()")


def results_block(compared: pd.DataFrame, folder: Path, page: Path) -> str:
    """One chart and the table of results of the machine that has the newest run, and what others come to.

    Args:
        compared: The frame of `compare.compare_cases`, of the newest run of each case.
        folder: The report's, whose charts are shown.
        page: Where the block stands, which links are told from.
    """
    cases = newest_machine(compared)
    machine = cases["machine"].iloc[0]
    way = os.path.relpath(folder.resolve() / "charts", page.resolve().parent)
    chart = f"{urllib.parse.quote(Path(way).as_posix())}/speedup-{machine.slug}.svg"
    alt = f"Speedup over the KV-cached PyTorch loop by model size, on {hardware_text(machine)}"
    parts = [f"![{escape(alt.translate(_NO_BRACKETS))}]({chart})", results_markdown(cases)]
    return "\n\n".join(filter(None, [*parts, other_machines_markdown(compared)]))


def with_block(page: Path, name: str, block: str) -> bytes:
    """A page's new content: what stood between its marks `<!-- NAME -->` and `<!-- end of NAME -->` is replaced.

    Raises:
        ReportError: If the page cannot be read, or has not one such place.
    """
    marks = re.compile(rf"(?<=^<!-- {name} -->\n).*?(?=^<!-- end of {name} -->$)", re.DOTALL | re.MULTILINE)
    content, count = marks.subn(lambda _: f"\n{block}\n\n", read_text(page))
    if count != 1:
        raise ReportError(
            f"{page}: has {count} places for the {name}, expected one: <!-- {name} -->, a line of its own, and "
            f"<!-- end of {name} -->"
        )
    return content.encode()


def write_pages(pages: Mapping[Path, bytes]) -> None:
    """Write pages, each one whole.

    Raises:
        ReportError: If one cannot be written.
    """
    for page, content in pages.items():
        path = page.resolve()  # the page that a link names, not the link
        write_files(path.parent, {path.name: content})
