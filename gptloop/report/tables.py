"""The tables of a machine's cases, for the summary and the page alike: which rows, which columns, what a cell says.

Does not know Markdown or HTML.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from gptloop.report.contenders import BASELINE, CANDIDATE
from gptloop.report.placement import by_placement
from gptloop.report.run_file import BOUNDS, STEP_COUNTS
from gptloop.report.text import (
    DASH,
    Row,
    bytes_text,
    contender_title,
    duration_spread_text,
    duration_text,
    or_dash,
    rate_text,
    ratio_spread_text,
    ratio_text,
    times_text,
    workload_text,
)

SPEEDUP_HEADERS = (
    *("size", "workload", contender_title(CANDIDATE), contender_title(BASELINE), "speedup"),
    *("TTFT", "TTFT speedup", "rounds"),
)


@dataclass(frozen=True)
class Table:
    """One table of the cases of a machine.

    Attributes:
        title: Its heading.
        caption: What it shows, where there is room to say so.
        headers: Of its columns; which case a row is of comes before them or above.
        alignment: `l` or `r` for each column.
        rows: Of the frame of `compare.compare_cases`, the rows it shows; it is left out where there are none.
        cells: What stands in each column of a row.
        folded: Whether most readers pass it over.
    """

    title: str
    caption: str
    headers: Sequence[str]
    alignment: str
    rows: Callable[[pd.DataFrame], pd.DataFrame]
    cells: Callable[[Row], list[str]]
    folded: bool = False


def speedup_tables(cases: pd.DataFrame) -> dict[str, list[list[str]]]:
    """Cells under `SPEEDUP_HEADERS` by pair of precisions, fp32 against fp32 first (the frame's own order)."""
    tables: dict[str, list[list[str]]] = {}
    for _, case in cases.groupby("group", sort=False):
        rows = {row["contender"]: row for row in case.to_dict("records")}
        candidate, baseline, anyone = rows.get(CANDIDATE), rows.get(BASELINE), next(iter(rows.values()))
        precisions = [(row or anyone)["precision"] for row in (candidate, baseline)]
        cells = [*case_cells(anyone, cases), *_speedup_cells(candidate, baseline)]
        tables.setdefault(" vs ".join(precisions), []).append(cells)
    return tables


def _speedup_cells(candidate: Row | None, baseline: Row | None) -> list[str]:
    return [
        DASH if candidate is None else duration_text(candidate["median_s"]),
        DASH if baseline is None else duration_text(baseline["median_s"]),
        DASH if candidate is None else _speedup_spread(candidate),
        DASH if candidate is None else duration_text(candidate["ttft_s"]),
        DASH if candidate is None else _ttft_speedup_spread(candidate),
        DASH if candidate is None else str(len(candidate["rounds_s"])),
    ]


def case_cells(row: Row, cases: pd.DataFrame) -> list[str]:
    """Size and workload of a row, among all the cases of its machine."""
    return [row["size"], workload_text(row, cases)]


def _speedup_spread(row: Row) -> str:
    return ratio_spread_text(row["speedup"], row["speedup_min"], row["speedup_max"])


def _ttft_speedup_spread(row: Row) -> str:
    return ratio_spread_text(row["ttft_speedup"], row["ttft_speedup_min"], row["ttft_speedup_max"])


def _contender_cells(row: Row) -> list[str]:
    is_baseline = row["contender"] == BASELINE
    return [
        contender_title(row["contender"]),
        row["precision"],
        duration_spread_text(row["median_s"], row["min_s"], row["max_s"]),
        "baseline" if is_baseline else _speedup_spread(row),
        duration_text(row["ttft_s"]),
        "baseline" if is_baseline else _ttft_speedup_spread(row),
        or_dash(row["time_per_output_token_s"], duration_text),
        rate_text(row["tokens_per_s"]),
        or_dash(row["over_ceiling"], ratio_text),
        duration_text(row["load_s"]),
        or_dash(row["peak_memory_bytes"], bytes_text),
        row["parity_check"] if is_baseline else _parity_text(row),
    ]


def _parity_text(row: Row) -> str:
    return f"{row['parity_check']}, {row['parity_excused_rows']} of {row['parity_rows']} rows excused"


def _ceiling_cells(row: Row) -> list[str]:
    return [
        contender_title(row["contender"]),
        row["precision"],
        duration_text(row["median_s"]),
        *(or_dash(row[f"{bound}_s"], duration_text) for bound in BOUNDS),
        BOUNDS[row["ceiling_kind"]],
        ratio_spread_text(row["over_ceiling"], row["over_ceiling_min"], row["over_ceiling_max"]),
    ]


def _growth_cells(row: Row) -> list[str]:
    return [
        contender_title(row["contender"]),
        row["precision"],
        str(row["max_new_tokens"]),
        duration_text(row["time_per_output_token_s"]),
        str(int(row["early_tokens"])),
        duration_text(row["early_time_per_output_token_s"]),
        ratio_spread_text(row["growth"], row["growth_min"], row["growth_max"]),
    ]


def _step_cells(row: Row) -> list[str]:
    counts = (row["step_counts"][name] for name in STEP_COUNTS)
    return [contender_title(row["contender"]), row["precision"], *map(times_text, counts)]


def _placement_cells(row: Row) -> list[str]:
    return [
        contender_title(row["contender"]),
        row["precision"],
        row["placement"],
        str(len(row["rounds_s"])),
        duration_spread_text(row["median_s"], row["min_s"], row["max_s"]),
        "baseline" if row["contender"] == BASELINE else _speedup_spread(row),
    ]


def _control_cells(row: Row) -> list[str]:
    return [
        contender_title(row["contender"]),
        row["precision"],
        duration_text(row["alone_median_s"]),
        duration_text(row["median_s"]),
        ratio_text(row["alone_over_interleaved"]),
    ]


CONTENDERS = Table(
    title="All contenders",
    caption="Time of a whole call, median [min-max]",
    headers=(
        *("contender", "precision", "time", "speedup", "TTFT", "TTFT speedup"),
        *("time per output token", "tokens/s", "time / ceiling", "load", "peak memory", "parity"),
    ),
    alignment="llrrrrrrrrrl",
    rows=lambda cases: cases,
    cells=_contender_cells,
)
CEILING = Table(
    title="Ceiling",
    caption="What a call cannot be faster than, median times",
    headers=("contender", "precision", "time", *BOUNDS.values(), "bound by", "time / ceiling"),
    alignment="llr" + "r" * len(BOUNDS) + "lr",
    rows=lambda cases: cases[cases["over_ceiling"].notna()],
    cells=_ceiling_cells,
)
GROWTH = Table(
    title="Growth with the length",
    caption="Time per output token of a long call, over that of its first new tokens",
    headers=(
        *("contender", "precision", "new tokens", "time per output token"),
        *("first new tokens", "over those", "growth"),
    ),
    alignment="llrrrrr",
    rows=lambda cases: cases[cases["growth"].notna()],
    cells=_growth_cells,
)
PLACEMENT = Table(
    title="Where the cores were: the rounds of each contender by placement",
    caption="Of the rounds with each placement, median [min-max]",
    headers=("contender", "precision", "cores", "rounds", "time", "speedup"),
    alignment="lllrrr",
    rows=by_placement,
    cells=_placement_cells,
    folded=True,
)
STEP = Table(
    title="A decode step on the GPU",
    caption="What a CUDA trace shows of one step: how often, on average",
    headers=(
        *("contender", "precision", "kernels", "copies to the GPU", "copies to the host"),
        *("synchronisations", "pinned allocations", "graph launches"),
    ),
    alignment="ll" + "r" * len(STEP_COUNTS),
    rows=lambda cases: cases[(cases["device"] == "cuda") & cases["step_counts"].notna()],
    cells=_step_cells,
)
CONTROL = Table(
    title="Control: each contender alone in a process of its own, against interleaved with the others",
    caption="Median times; a ratio of 1.00x says that sharing a process cost nothing",
    headers=("contender", "precision", "alone", "interleaved", "alone / interleaved"),
    alignment="llrrr",
    rows=lambda cases: cases[cases["alone_median_s"].notna()],
    cells=_control_cells,
    folded=True,
)

TABLES = (CONTENDERS, CEILING, STEP, GROWTH, PLACEMENT, CONTROL)
