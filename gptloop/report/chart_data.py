"""The numbers behind a chart, as CSV in a link of the page itself: seconds, and ratios of times."""

from __future__ import annotations

import base64

import pandas as pd

_WORK = (
    "size",
    "workload",
    "prompts",
    "num_return_sequences",
    "prompt_len",
    "max_new_tokens",
    "contender",
    "precision",
)
_SPEEDUP = ("speedup", "speedup_min", "speedup_max", "ttft_speedup", "ttft_speedup_min", "ttft_speedup_max")
_TIMES = ("median_s", "min_s", "max_s", "ttft_s", "time_per_output_token_s")
_RUN = ("run", "datetime", "commit", "dirty")

COLUMNS = {
    "times": (*_WORK, *_TIMES, *_SPEEDUP),
    "speedup": (*_WORK, *_SPEEDUP),
    "ladder": (*_WORK, "median_s", *_SPEEDUP[:3]),
    "tokens_per_s": (*_WORK, "tokens_per_s"),
    "latency": (*_WORK, "ttft_s", "time_per_output_token_s", "ceiling_ttft_s", "ceiling_time_per_output_token_s"),
    "history": (*_RUN, *_WORK, *_TIMES[:3], *_SPEEDUP[:3]),
}


def data_link(kind: str, cases: pd.DataFrame) -> str:
    """A `data:` address of a chart's numbers as CSV; the same for the same cases.

    Args:
        kind: Of the chart, one of `COLUMNS`.
        cases: The rows of one machine that it is drawn from, of `compare.compare_cases`.
    """
    content = cases[list(COLUMNS[kind])].to_csv(index=False, lineterminator="\n")
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content.encode()).decode()}"
