"""A folder's report, made and written: the one way from saved runs to files, for the command line and for others."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gptloop.report.baseline import Judged, judge_run
from gptloop.report.budgets import read_budgets
from gptloop.report.compare import compare_cases
from gptloop.report.disk import write_files
from gptloop.report.files import Findings, report_files
from gptloop.report.folder import Say, say_nothing
from gptloop.report.newest import newest_run
from gptloop.report.notes import read_notes
from gptloop.report.pages import RECORDS, RESULTS, records_block, results_block, with_block, write_pages
from gptloop.report.runs import newest_cases, newest_machines, read_runs
from gptloop.report.summary import summary_markdown
from gptloop.report.trend import find_trends
from gptloop.report.update import new_baseline, refuse_other_file


@dataclass(frozen=True)
class Report:
    """What was written, as far as a caller shows it.

    Attributes:
        summary: Markdown.
        judged: The gate's verdicts, where there was a baseline.
    """

    summary: str
    judged: Judged | None


def write_report(
    folder: Path,
    *,
    baseline: Path | None = None,
    update_baseline: bool = False,
    budgets: Path = Path("benchmarks/gate/budgets.toml"),
    readme: Path | None = None,
    records: Path | None = None,
    say: Say = say_nothing,
) -> Report:
    """Write the report of a folder's runs into it.

    Args:
        folder: Where runs are saved.
        baseline: Judge the newest run against this one.
        update_baseline: Make the newest run the baseline first.
        budgets: Of the gated cases, whose trend is shown; where there is no such file, none is. Needed for a baseline.
        readme: A page whose results are written, too.
        records: A page whose record of all runs is written, too.
        say: Is told in a line of each file that is left out.

    Raises:
        ReportError: If something cannot be read, judged or written. Unless a page cannot be written, the report is as
            it was; a baseline is replaced before.
    """
    left_out: list[str] = []

    def note(line: str) -> None:
        say(line)
        left_out.append(line.removeprefix(f"{folder}/"))

    runs = read_runs(folder, note, of_one_schema=baseline is not None)
    notes = read_notes(folder, runs["run"])
    runs = newest_machines(runs, note)
    compared, history = compare_cases(newest_cases(runs)), compare_cases(runs)
    gated = list(read_budgets(budgets).cases) if budgets.exists() else []
    trends = find_trends(history, gated, notes)
    if baseline and update_baseline:
        _update_baseline(runs, baseline, budgets, folder)
    against = None if update_baseline else baseline  # a run says nothing against the baseline that is made from it
    judged = judge_run(newest_run(runs), against, read_budgets(budgets), folder) if against else None
    sections = [judged.markdown()] if judged else []
    summary = summary_markdown(compared, *sections, trends=trends, left_out=left_out)
    files = report_files(Findings(compared, history, trends, notes, left_out), summary, judged)
    pages = {}
    if readme:
        pages[readme] = with_block(readme, RESULTS, results_block(compared, folder, readme))
    if records:
        pages[records] = with_block(records, RECORDS, records_block(history))
    write_files(folder, files)
    write_pages(pages)
    return Report(summary, judged)


def _update_baseline(runs: pd.DataFrame, baseline: Path, budgets: Path, folder: Path) -> None:
    refuse_other_file(baseline, folder)
    run = newest_run(runs)
    content = new_baseline(run, folder / run["run"].iloc[0], read_budgets(budgets), folder)
    write_files(baseline.parent, {baseline.name: content})
