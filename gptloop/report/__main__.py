"""The report's command line; wiring only."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gptloop.console import reader_may_leave
from gptloop.report import (
    ReportError,
    append_text,
    compare_cases,
    judge_run,
    new_baseline,
    newest_cases,
    newest_run,
    read_budgets,
    read_notes,
    read_runs,
    report_files,
    summary_markdown,
    write_files,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Render a folder's runs into it, print the summary, and add it to a GitHub job's; judge where there is a baseline.

    Returns:
        The exit status: 0; 1 for a regression, where verdicts count; 2 where no report could be made, and then the
        report is as it was (a baseline is replaced before it is judged against), where the report could not be added to
        the job's summary, or where a verdict that counts could not be reached.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.baseline is None and (options.fail_on_regression or options.update_baseline):
        parser.error("--fail-on-regression and --update-baseline need --baseline FILE")
    try:
        runs = read_runs(options.folder)
        notes = read_notes(options.folder, runs["run"])
        compared = compare_cases(newest_cases(runs))
        if options.update_baseline:
            _update_baseline(runs, options)
        judged = None
        if options.baseline is not None:
            judged = judge_run(newest_run(runs), options.baseline, read_budgets(options.budgets), options.folder)
        summary = summary_markdown(compared, *([judged.markdown()] if judged else []))
        write_files(options.folder, report_files(runs, compared, summary, notes, judged))
        if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            append_text(Path(step_summary), summary)
    except ReportError as error:
        print(f"gptloop.report: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may hold what the terminal's encoding lacks
    with reader_may_leave():
        print(summary, end="")
    return judged.exit_code if judged and options.fail_on_regression else 0


def _update_baseline(runs: pd.DataFrame, options: argparse.Namespace) -> None:
    run = newest_run(runs)
    path = options.folder / run["run"].iloc[0]
    content = new_baseline(run, path, read_budgets(options.budgets), options.folder)
    if not options.baseline.parent.is_dir():
        raise ReportError(f"{options.baseline.parent}: no such folder")
    write_files(options.baseline.parent, {options.baseline.name: content})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gptloop.report",
        description="Write summary.md, report.html, report.json and charts/ from the benchmark runs saved in a folder, "
        "and print the summary; where GITHUB_STEP_SUMMARY names a file, add it there, too. With --baseline, judge the "
        "newest run as well, and write verdicts.json.",
    )
    parser.add_argument("folder", type=Path, help="where the runs are saved, such as reports/")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="a saved run, or what --update-baseline wrote: judge against it"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--fail-on-regression", action="store_true", help="exit with 1 for a regression, 2 for what cannot be judged"
    )
    group.add_argument(
        "--update-baseline", action="store_true", help="make the newest run the baseline, with the machine's floors"
    )
    parser.add_argument(
        "--budgets",
        type=Path,
        metavar="FILE",
        default=Path("benchmarks/gate/budgets.toml"),
        help="gated cases and what they may cost (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
