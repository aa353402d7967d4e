"""The report: saved runs of the benchmark suite in, speedup charts and a summary out.

Data flows one way: `runs` (JSON to a frame), `compare` (ratios) and `placement` (the same, by where the cores were),
`text` (words) and `tables`, then `charts`, the `summary` and the `page`. For the regression gate it is `runs`,
`baseline` (what is compared), `statistics` (effects and intervals), `verdicts`. Below them, `records` checks what is
read, field by field, and `disk` reads and writes whole files. Nothing here knows the graph or loads a model.
"""

from gptloop.report.baseline import judge_run, new_baseline, newest_run
from gptloop.report.budgets import read_budgets
from gptloop.report.charts import render_charts
from gptloop.report.compare import compare_cases
from gptloop.report.disk import append_text, write_files
from gptloop.report.errors import ReportError
from gptloop.report.files import report_files
from gptloop.report.notes import read_notes
from gptloop.report.runs import newest_cases, read_runs
from gptloop.report.summary import summary_markdown

__all__ = [
    "ReportError",
    "append_text",
    "compare_cases",
    "judge_run",
    "new_baseline",
    "newest_cases",
    "newest_run",
    "read_budgets",
    "read_notes",
    "read_runs",
    "render_charts",
    "report_files",
    "summary_markdown",
    "write_files",
]
