"""The results that pages of the project quote: a short table for its front page, and the record of all runs.

Which rows there are is a rule, so that nobody picks them; numbers are worded by `text`. Knows no page.
"""

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from gptloop.report.compare import precision_rank
from gptloop.report.contenders import BASELINE, CANDIDATE, OWN, PEERS
from gptloop.report.markdown import escape, table
from gptloop.report.run_file import CASE_FIELDS
from gptloop.report.text import (
    DASH,
    Row,
    commits_text,
    contender_title,
    duration_text,
    hardware_text,
    precision_text,
    ratio_text,
    tokens_text,
    versions_text,
    weights_text,
    workload_text,
)

MOST_ROWS, MOST_OTHERS = 8, 3

_FIRST_SIZE = "gpt2"

# The work that runs have in common: 36 + 36 tokens, sampled.
_RECORD_WORK = {"1x1": "one row", "8x1": "8 prompts", "1x64": "64 candidates"}
_RECORD_TOKENS = (36, 36)
_RECORD_PRECISIONS = ("fp32", "int8")


def newest_machine(compared: pd.DataFrame) -> pd.DataFrame:
    """Of the frame of `compare.compare_cases`, the rows of the machine that has the newest run."""
    return compared[compared["fingerprint"] == compared["fingerprint"].iloc[0]]  # it stands first


def results_markdown(cases: pd.DataFrame) -> str:
    """Our times beside the PyTorch loop's and the best peer's: at most `MOST_ROWS` rows, and on what grounds.

    Args:
        cases: Of `newest_machine`; each case is from the newest run that holds it.

    Returns:
        A Markdown table: gpt2's workloads, then those of other sizes, each in the report's order; and a paragraph.
    """
    works = list(_works(cases))
    shown = [work for of_first in (True, False) for work in works if (work[0]["size"] == _FIRST_SIZE) is of_first]
    shown = shown[:MOST_ROWS]
    rows = [row for work in shown for row in work]
    precisions = {row["precision"] for row in rows if row["contender"] in OWN}
    columns = sorted(precisions, key=precision_rank)
    headers = ["size", "workload", *(f"{contender_title(CANDIDATE)}, {precision}" for precision in columns)]
    headers += [f"TTFT, {precision}" for precision in columns]
    headers += [contender_title(BASELINE), "best peer", "date"]
    lines = [
        [
            work[0]["size"],
            workload_text(work[0], cases),
            *(_own_cell(work, precision) for precision in columns),
            *(_ttft_cell(work, precision) for precision in columns),
            _time_cell(_row(work, BASELINE)),
            _peer_cell(work),
            f"{work[0]['datetime']:%Y-%m-%d}",
        ]
        for work in shown
    ]
    shown_table = table(headers, lines, "ll" + "r" * (2 * len(columns) + 2) + "l")
    return f"{shown_table}\n\n{_grounds(pd.DataFrame.from_records(rows))}"


def other_machines_markdown(compared: pd.DataFrame) -> str:
    """Our speedups over the PyTorch loop on the machines that have no newest run, a list item each, the newest first.

    Args:
        compared: The frame of `compare.compare_cases`, of the newest run of each case.

    Returns:
        At most `MOST_OTHERS` items below a heading, which says so where there are more; nothing for one machine.
    """
    newest = newest_machine(compared)["fingerprint"].iloc[0]
    own = compared[(compared["fingerprint"] != newest) & compared["contender"].isin(OWN) & compared["speedup"].notna()]
    machines = [of for _, of in own.groupby("fingerprint", sort=False)]
    items = []
    for of in machines[:MOST_OTHERS]:
        ranges = (
            f"{ratio_text(rows['speedup'].min())} to {ratio_text(rows['speedup'].max())} in {precision}"
            for precision, rows in sorted(of.groupby("precision"), key=lambda pair: precision_rank(pair[0]))
        )
        words = f"{hardware_text(of['machine'].iloc[0])}, {of['datetime'].max():%Y-%m-%d}: {', '.join(ranges)}"
        items.append(f"- {escape(words)}")
    which = f"the {len(items)} other machines measured last" if len(machines) > len(items) else "other machines"
    return "\n".join([f"Speedups over the PyTorch loop on {which}, all cases:", "", *items]) if items else ""


def records_markdown(compared: pd.DataFrame) -> str:
    """The record: gpt2's time and speedup in each saved run that measured it, oldest first.

    Args:
        compared: The frame of `compare.compare_cases`, of all runs.

    Returns:
        A Markdown table; the workloads are those of 36 + 36 tokens.
    """
    tokens = (compared["prompt_len"] == _RECORD_TOKENS[0]) & (compared["max_new_tokens"] == _RECORD_TOKENS[1])
    found = compared[(compared["size"] == _FIRST_SIZE) & compared["workload"].isin(list(_RECORD_WORK)) & tokens]
    lines = []
    for _, run in found.sort_values(["datetime", "run"], kind="stable").groupby("run", sort=False):
        rows: list[Row] = list(run.to_dict("records"))
        of_work = {name: [row for row in rows if row["workload"] == name] for name in _RECORD_WORK}
        cells = [_own_cell(of_work[name], precision) for name in _RECORD_WORK for precision in _RECORD_PRECISIONS]
        if any(cell != DASH for cell in cells):
            first = rows[0]
            facts = [f"{first['datetime']:%Y-%m-%d}", commits_text(run), hardware_text(first["machine"])]
            lines.append([*facts, *cells])
    works = [f"{words}, {precision}" for words in _RECORD_WORK.values() for precision in _RECORD_PRECISIONS]
    return table(["date", "commit", "machine", *works], lines, "lll" + "r" * len(works))


def _works(cases: pd.DataFrame) -> Iterator[list[Row]]:
    """The rows of each piece of work in one run, whatever its groups are: fp32 and int8 may have one each."""
    for _, work in cases.groupby(["run", *CASE_FIELDS], sort=False):
        rows: list[Row] = list(work.to_dict("records"))
        if any(row["contender"] in OWN for row in rows):
            yield rows


def _row(work: list[Row], *contenders: str, precision: str | None = None) -> Row | None:
    """The first of some contenders, in one precision if it is named."""
    rows = (row for row in work if row["contender"] in contenders and precision in (None, row["precision"]))
    return next(rows, None)


def _own_cell(work: list[Row], precision: str) -> str:
    row = _row(work, *OWN, precision=precision)
    if row is None:
        return DASH
    return duration_text(row["median_s"]) + ("" if pd.isna(row["speedup"]) else f", {ratio_text(row['speedup'])}")


def _ttft_cell(work: list[Row], precision: str) -> str:
    row = _row(work, *OWN, precision=precision)
    if row is None:
        return DASH
    speedup = row["ttft_speedup"]
    return duration_text(row["ttft_s"]) + ("" if pd.isna(speedup) else f", {ratio_text(speedup)}")


def _time_cell(row: Mapping[Any, Any] | None) -> str:
    return DASH if row is None else duration_text(row["median_s"])


def _peer_cell(work: list[Row]) -> str:
    peers = [row for row in work if row["contender"] in PEERS]
    if not peers:
        return DASH
    best = min(peers, key=lambda row: row["median_s"])
    return f"{contender_title(best['contender'])}: {duration_text(best['median_s'])}"


def _tokens(shown: pd.DataFrame) -> str:
    """How many tokens a row has, where the table does not say it; what its `36 + 36 tokens` are, where it does."""
    if len(shown[["prompt_len", "max_new_tokens"]].drop_duplicates()) == 1:
        return f"A row has {tokens_text(shown)}."
    return "Tokens of a row: prompt + new."


def _peers(shown: pd.DataFrame) -> str:
    """Which peers the best is the best of: those that were measured."""
    measured = [contender_title(name) for name in PEERS if (shown["contender"] == name).any()]
    if not measured:
        return "No peer was measured."
    words = f"Peers measured here: {'; '.join(measured)}. The best is the fastest of its row"
    return f'{words}; "{DASH}" stands where none was measured.'


def _grounds(shown: pd.DataFrame) -> str:
    """What the numbers of a table stand on, as a paragraph."""
    machine, rounds = shown["machine"].iloc[0], shown["rounds_s"].map(len)
    low, high = int(rounds.min()), int(rounds.max())
    counted = f"{low}" if low == high else f"{low} to {high}"
    baseline = shown[shown["contender"] == BASELINE]
    over = f"{contender_title(BASELINE)} ({precision_text(baseline)})" if len(baseline) else contender_title(BASELINE)
    words = (
        f"Measured on {hardware_text(machine)} ({versions_text(machine)}) with {weights_text(shown)}. A time is that "
        f"of a whole call, the median of {counted} interleaved rounds; a speedup is over the {over} in the same rounds."
        " TTFT is the time to first token."
        f" {_tokens(shown)} {_peers(shown)}"
    )
    return textwrap.fill(escape(words), 120, break_on_hyphens=False, break_long_words=False)
