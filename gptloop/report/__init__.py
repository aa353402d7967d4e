"""The report: saved runs of the benchmark suite in, speedup charts and a summary out.

Data flows one way: `runs` (the files that `folder` finds and `run_file` checks, as a frame), `compare` (ratios) and
`placement` (the same, by where the cores were), `trend` (lasting changes, which `change_points` finds), `text` and
`trend_words` (words), `answers` and `tables`, then `charts`, the `summary`, the `page` (a machine's part of it in
`page_section`) and, for pages of the project, `results`. For the regression gate it is `newest` (what is judged),
`baseline` (against what) and `update` (what becomes one), `statistics` (effects and intervals), `verdicts`. `write`
makes all of it, and `command` is its command line. Below them, `contenders` has the contenders' order, titles and
colours, `records` checks what is read, field by field, and `disk` reads and writes whole files. Nothing here knows the
graph or loads a model.
"""

from gptloop.report.disk import append_text, write_files
from gptloop.report.errors import ReportError
from gptloop.report.write import Report, write_report

__all__ = ["Report", "ReportError", "append_text", "write_files", "write_report"]
