"""Time of each workload as the page shows it: a panel for each case, a bar for each contender, TTFT beside whole time.

Knows lengths and colours of bars; the page draws them, so they follow its width, its filter and its colour scheme.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from gptloop.report import text

_BLACK = "#000000"


def panels(cases: pd.DataFrame, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """The panels of one machine's cases.

    Args:
        cases: Rows of the frame of `compare.compare_cases`.
        colours: By contender.

    Returns:
        For each case its `size`, `workload` and `rows`: a contender's `title`, `precision`, `colour`, and for `time`
        and `ttft` the `words`, the `speedup` (or a dash) and the `share` of the longest bar of that kind, 0 to 100.
    """
    found = []
    for _, case in cases.groupby("group", sort=False):
        longest = {name: float(case[name].max()) for name in ("median_s", "ttft_s")}
        found.append(
            {
                "size": case["size"].iloc[0],
                "workload": text.workload_text(case.iloc[0].to_dict(), cases),
                "rows": [_row(row, longest, colours) for row in case.to_dict("records")],
            }
        )
    return found


def _row(row: text.Row, longest: Mapping[str, float], colours: Mapping[str, str]) -> dict[str, Any]:
    colour = colours[row["contender"]]
    return {
        "title": text.contender_title(row["contender"]),
        "precision": row["precision"],
        "colour": "var(--ink)" if colour == _BLACK else colour,
        "time": _bar(row["median_s"], row["speedup"], longest["median_s"]),
        "ttft": _bar(row["ttft_s"], row["ttft_speedup"], longest["ttft_s"]),
    }


def _bar(seconds: float, speedup: float, longest: float) -> dict[str, Any]:
    share = round(100 * seconds / longest, 1)
    return {"words": text.duration_text(seconds), "speedup": text.or_dash(speedup, text.ratio_text), "share": share}
