"""A folder's report, made and written: the one way from saved runs to files, for the command line and for others."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gptloop.report.baseline import Judged, judge_run
from gptloop.report.budgets import Budgets, read_budgets
from gptloop.report.compare import compare_cases
from gptloop.report.disk import write_files
from gptloop.report.files import Findings, report_files
from gptloop.report.folder import Say, say_nothing
from gptloop.report.newest import newest_run
from gptloop.report.notes import read_notes
from gptloop.report.pages import RECORDS, RESULTS, results_block, with_block, write_pages
from gptloop.report.results import records_markdown
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
        update_baseline: Make the newest run that baseline instead.
        budgets: Of the gated cases, whose trend is shown; where there is no such file, none is. Needed for a baseline.
        readme: A page whose results are written, too.
        records: A page whose record of all runs is written, too.
        say: Is told in a line of each file that is left out.

    Raises:
        ReportError: If something cannot be read, judged or written. Unless a page cannot be written, the report is as
            it was; a baseline is replaced before it is written, but after everything is read.
    """
    allowed = read_budgets(budgets) if baseline or budgets.exists() else None
    runs, findings = _findings(folder, allowed, say, of_one_schema=baseline is not None)
    pages = _pages(findings, folder, readme, records)
    judged = None
    if baseline and allowed:
        run = newest_run(runs)
        if update_baseline:  # the run says nothing against the baseline that is made from it
            refuse_other_file(baseline, folder)
            content = new_baseline(run, folder / run["run"].iloc[0], allowed, folder)
            write_files(baseline.parent, {baseline.name: content})
        else:
            judged = judge_run(run, baseline, allowed, folder)
    sections = [judged.markdown()] if judged else []
    summary = summary_markdown(findings.compared, *sections, trends=findings.trends, left_out=findings.left_out)
    write_files(folder, report_files(findings, summary, judged))
    write_pages(pages)
    return Report(summary, judged)


def _findings(folder: Path, budgets: Budgets | None, say: Say, *, of_one_schema: bool) -> tuple[pd.DataFrame, Findings]:
    """The runs of the machines that the report shows, and what is found in them."""
    left_out: list[str] = []

    def note(line: str) -> None:
        say(line)
        left_out.append(line.removeprefix(f"{folder}/"))

    runs = read_runs(folder, note, of_one_schema=of_one_schema)
    notes = read_notes(folder, runs["run"])
    runs = newest_machines(runs, note)
    history = compare_cases(runs)
    trends = find_trends(history, list(budgets.cases) if budgets else [], notes)
    return runs, Findings(compare_cases(newest_cases(runs)), history, trends, notes, left_out)


def _pages(findings: Findings, folder: Path, readme: Path | None, records: Path | None) -> dict[Path, bytes]:
    """The new contents of the pages that are asked for."""
    pages = {}
    if readme:
        pages[readme] = with_block(readme, RESULTS, results_block(findings.compared, folder, readme))
    if records:
        pages[records] = with_block(records, RECORDS, records_markdown(findings.history))
    return pages
