"""The report's command line; wiring only."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gptloop.report import (
    ReportError,
    append_text,
    compare_cases,
    newest_cases,
    read_runs,
    report_files,
    summary_markdown,
    write_files,
)
from gptloop.stdout import reader_may_leave


def main(arguments: Sequence[str] | None = None) -> int:
    """Render a folder's runs into it, print the summary, and add it to a GitHub job's.

    Returns:
        The exit status: 0, or 2 where no report could be made; then the folder is as it was.
    """
    folder = _parser().parse_args(arguments).folder
    try:
        runs = read_runs(folder)
        compared = compare_cases(newest_cases(runs))
        summary = summary_markdown(compared)
        write_files(folder, report_files(runs, compared, summary))
        if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            append_text(Path(step_summary), summary)
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
        description="Write summary.md, report.html, report.json and charts/ from the benchmark runs saved in a folder, "
        "and print the summary; where GITHUB_STEP_SUMMARY names a file, add it there, too.",
    )
    parser.add_argument("folder", type=Path, help="where the runs are saved, such as reports/")
    return parser


if __name__ == "__main__":
    sys.exit(main())
