"""The report's command line: what is asked for, what is printed, and the exit status; `write` makes the report."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from gptloop import ending
from gptloop.console import one_line
from gptloop.report.disk import append_text
from gptloop.report.errors import ReportError
from gptloop.report.junit import junit_file
from gptloop.report.verdicts import Verdict
from gptloop.report.write import write_report

_NAME = "gptloop.report"
_MOST_LEFT_OUT = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Render a folder's runs into it, print the summary, also for a GitHub job; judge where there is a baseline.

    Returns:
        The exit status: 0; 1 for a regression, where verdicts count, and for nothing else; 2 where no report could be
        made, and then the report is as it was (a baseline is replaced before), where a page, the job's summary or
        standard output could not be written, where a verdict that counts could not be reached, or for what nobody
        expected; 130 if it was interrupted.
    """

    def command() -> int:
        options = _options(arguments)
        with junit_file(options.junit) as write_junit:
            return _run(options, write_junit)

    return ending.run(_NAME, command, ReportError)


def _run(options: argparse.Namespace, write_junit: Callable[[Sequence[Verdict]], None]) -> int:
    left_out: list[str] = []
    try:
        report = write_report(
            options.folder,
            baseline=options.baseline,
            update_baseline=options.update_baseline,
            budgets=options.budgets,
            readme=options.readme,
            records=options.records,
            say=left_out.append,
        )
    finally:
        if (more := len(left_out) - _MOST_LEFT_OUT) > 0:
            left_out[_MOST_LEFT_OUT:] = [f"and {more:,} more files are left out"]
        for line in left_out:
            ending.say(f"{_NAME}: {one_line(line)}")
    if report.judged:
        write_junit(report.judged.verdicts)
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        append_text(Path(step_summary), report.summary)
    try:
        ending.print_result(report.summary, end="")
    except OSError as error:
        raise ReportError(f"{error}; the report is written") from error
    ending.say(f"{_NAME}: wrote {one_line(str(options.folder / 'report.html'))}")
    return report.judged.exit_code if report.judged and options.fail_on_regression else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = ending.Parser(
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
        "--update-baseline",
        action="store_true",
        help="make the newest run the baseline, with the machine's floors; replaces nothing but a baseline",
    )
    parser.add_argument(
        "--budgets",
        type=Path,
        metavar="FILE",
        default=Path("benchmarks/gate/budgets.toml"),
        help="gated cases and what they may cost (default: %(default)s)",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="save the verdicts as JUnit XML, too")
    parser.add_argument(
        "--readme", type=Path, metavar="FILE", help="put results and a chart between a page's marks <!-- results -->"
    )
    parser.add_argument(
        "--records", type=Path, metavar="FILE", help="put the record of all runs between a page's <!-- records -->"
    )
    options = parser.parse_args(arguments)
    if options.baseline is None and (options.fail_on_regression or options.update_baseline):
        parser.error("--fail-on-regression and --update-baseline need --baseline FILE")
    if options.junit and (options.baseline is None or options.update_baseline):
        parser.error("--junit needs --baseline FILE, and no --update-baseline: it holds verdicts")
    return options
