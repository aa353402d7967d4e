"""The report's command line; wiring only."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from gptloop.report import (
    ReportError,
    compare_cases,
    newest_cases,
    read_runs,
    render_charts,
    summary_markdown,
    write_files,
)
from gptloop.stdout import reader_may_leave


def main(arguments: Sequence[str] | None = None) -> int:
    """Render a folder's runs into it and print the summary.

    Returns:
        The exit status: 0, or 2 where no report could be made; then the folder is as it was.
    """
    folder = _parser().parse_args(arguments).folder
    try:
        compared = compare_cases(newest_cases(read_runs(folder)))
        summary = summary_markdown(compared)
        write_files(folder, {**render_charts(compared), "summary.md": summary.encode()})
    except ReportError as error:
        print(f"gptloop.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding lacks
    with reader_may_leave():
        print(summary, end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gptloop.report",
        description="Write charts/ and summary.md from the benchmark runs saved in a folder, and print the summary.",
    )
    parser.add_argument("folder", type=Path, help="where the runs are saved, such as reports/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
