"""Saved runs in: every benchmark of a folder's runs as one frame, and which of them is the newest of its case.

Knows files only by way of `folder` (which are runs) and `run_file` (what one holds). Does not know what is compared
with what, nor how anything is shown.
"""

from pathlib import Path

import pandas as pd

from gptloop.report.errors import NotOursError, OtherSchemaError, ReportError
from gptloop.report.folder import Say, run_files, say_nothing
from gptloop.report.run_file import rows_of_baseline, rows_of_run

MOST_MACHINES = 10  # each has five charts, a section and tables of its own


def read_runs(folder: Path, say: Say = say_nothing, *, of_one_schema: bool = False) -> pd.DataFrame:
    """Every benchmark of every run saved below a folder, one row each.

    Runs are `MACHINE/NNNN_*.json`. Other JSON files with a top-level `gptloop_kind` are gptloop's own and are passed
    over.

    Args:
        folder: Where they are saved.
        say: Is told in a line of each file that is left out: see `folder.run_files`; and runs of another suite, or in
            the form of another version.
        of_one_schema: Refuse the latter: to a gate, one of them may be the newest run.

    Returns:
        A frame with the columns

        - `run` (path below the folder), `datetime` (UTC), `commit`, `branch` (or None), `dirty`, `gptloop` (version or
          None), `huge_page_bytes` (what contenders could have; 0 for none, None where nobody noted): the run;
        - `machine` (a `Machine`), `fingerprint` (its slug): where it was measured;
        - `group`: the case. Contenders of one case in one run were interleaved: round i of one pairs with round i of
          the other;
        - `size`, `workload`, `workload_title`, `weights`, `device`, `prompts`, `prompt_len`, `num_return_sequences`,
          `max_new_tokens`, `temperature`, `top_k`: the case's facts;
        - `contender`, `precision`: what was timed;
        - `rounds_s`, `ttft_rounds_s`, `alone_rounds_s`: lists of raw rounds in seconds, the last one maybe empty;
        - `ttft_s`, `time_per_output_token_s` (or None), `tokens_per_s`, `load_s`, `peak_memory_bytes` (or None);
        - `parity_check`, `parity_rows`, `parity_excused_rows`;
        - where they were measured, else None or an empty list: `ceiling_kind` (one of `run_file.BOUNDS`),
          `ceiling_rounds_s` and `ceiling_ttft_rounds_s`, what bounds the contender's call and its first token,
          `products_rounds_s`, `all_products_rounds_s` and `bandwidth_rounds_s`, the bounds of which it is the highest;
          `early_tokens`, `early_rounds_s` and `early_time_per_output_token_s`, the call of so many new tokens;
          `step_counts`, how often a decode step did what `run_file.STEP_COUNTS` names, by name;
          `own_passes_s` and `exchanged_passes_s`, of each round what `gptloop.report.placement` reads: seconds before
          and after the call.

    Raises:
        ReportError: If the folder is missing or holds no runs, or if one of them cannot be read or is damaged.
    """
    rows = []
    for path in run_files(folder, say):
        try:
            rows += rows_of_run(path, folder)
        except OtherSchemaError as error:
            if of_one_schema:
                raise
            say(f"{error}: left out")
        except NotOursError as error:
            say(f"{error}: left out")
    if not rows:
        raise ReportError(
            f"{folder}: no runs here (MACHINE/NNNN_*.json, saved by pytest benchmarks --benchmark-autosave)"
        )
    return pd.DataFrame.from_records(rows)


def read_run(path: Path) -> pd.DataFrame:
    """One saved run, or a baseline, wherever it lies: the rows of `read_runs`."""
    return pd.DataFrame.from_records(rows_of_baseline(path))


def newest_machines(runs: pd.DataFrame, say: Say = say_nothing) -> pd.DataFrame:
    """The runs of the machines that were measured last, at most `MOST_MACHINES`; `say` is told what is left out."""
    last = runs.groupby("fingerprint")["datetime"].max().sort_values(ascending=False, kind="stable")
    if len(last) > MOST_MACHINES:
        beyond = f"{len(last) - MOST_MACHINES:,} of {len(last):,} machines"
        say(f"the runs of {beyond} are left out: those that were measured longest ago")
    return runs[runs["fingerprint"].isin(last.index[:MOST_MACHINES])]


def newest_cases(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each case on each machine, the rows of the newest run that holds it.

    All contenders of a case come from that one run, so pairs of rounds never mix runs.
    """
    by_age = runs.sort_values(["datetime", "run"], kind="stable")
    newest = by_age.groupby(["fingerprint", "group"])["run"].transform("last")
    return by_age[by_age["run"] == newest].reset_index(drop=True)
