"""The one place where the report forms a ratio, and decides in which order cases stand.

Knows which contender is the baseline and which rounds pair with which; does not know where runs come from, nor how a
ratio is written or drawn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gptloop.metrics import time_per_output_token_s
from gptloop.report.contenders import BASELINE, CONTENDERS
from gptloop.report.errors import ReportError
from gptloop.report.records import named
from gptloop.report.run_file import BOUNDS

_SIZES = ("distilgpt2", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
_PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "int8", "int4")


def paired_ratios(baseline_rounds_s: Sequence[float], rounds_s: Sequence[float]) -> list[float]:
    """How many times faster each round was than the baseline's round that was interleaved with it.

    Args:
        baseline_rounds_s: The baseline's rounds in seconds, in the order measured.
        rounds_s: The contender's rounds of the same case in the same run.

    Raises:
        ReportError: If the counts differ: then nobody knows which round pairs with which.
    """
    if len(baseline_rounds_s) != len(rounds_s):
        raise ReportError(f"{len(rounds_s)} rounds cannot be paired with {len(baseline_rounds_s)} of the baseline")
    return [baseline / own for baseline, own in zip(baseline_rounds_s, rounds_s, strict=True)]


def compare_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """Times and ratios of every contender, in the order in which a report shows them.

    Args:
        cases: Rows of `runs.newest_cases`. Rounds are paired within a run only.

    Returns:
        The same rows with these columns added, ratios being NaN where there is nothing to compare with:

        - `median_s`, `min_s`, `max_s`: of the contender's rounds;
        - `baseline_median_s`, `baseline_precision` (or None): the baseline of the same case in the same run;
        - `speedup`, `speedup_min`, `speedup_q1`, `speedup_q3`, `speedup_max`: median and spread of the paired ratios,
          baseline over contender; NaN for the baseline itself;
        - `ttft_speedup`, `ttft_speedup_min`, `ttft_speedup_max`: the same of the time to first token;
        - `alone_median_s`, `alone_over_interleaved`: the control. 1 says that sharing a process cost nothing;
        - `over_ceiling`, `over_ceiling_min`, `over_ceiling_max`: median and spread of the paired ratios, contender over
          its ceiling; `products_s` and the like: medians of the bounds, of which it is the highest one;
        - `ceiling_ttft_s`, `ceiling_time_per_output_token_s`: the same bound of both;
        - `growth`, `growth_min`, `growth_max`: median and spread of the paired ratios, time per output token over all
          new tokens over that of the first `early_tokens`; both with the median of TTFT.

    Raises:
        ReportError: If a contender's rounds cannot be paired with the baseline's, with those of its ceiling or of its
            first tokens; names the run and the case.
    """
    baselines = {_case(row): row for row in cases.to_dict("records") if row["contender"] == BASELINE}
    rows = [row | _ratios(row, baselines.get(_case(row))) for row in cases.to_dict("records")]
    return pd.DataFrame.from_records(_in_order(rows))


def _case(row: dict[Any, Any]) -> tuple[str, str, str]:
    return row["fingerprint"], row["run"], row["group"]


def _place(row: dict[Any, Any]) -> str:
    return f"{row['run']}: case {named(row['group'])}, contender {named(row['contender'])}"


def _ratios(row: dict[Any, Any], baseline: dict[Any, Any] | None) -> dict[str, Any]:
    median_s = float(np.median(row["rounds_s"]))
    alone_s = float(np.median(row["alone_rounds_s"])) if row["alone_rounds_s"] else float("nan")
    return {
        "median_s": median_s,
        "min_s": min(row["rounds_s"]),
        "max_s": max(row["rounds_s"]),
        "baseline_median_s": float(np.median(baseline["rounds_s"])) if baseline else float("nan"),
        "baseline_precision": baseline["precision"] if baseline else None,
        **_speedup(row, baseline),
        **_ttft_speedup(row, baseline),
        "alone_median_s": alone_s,
        "alone_over_interleaved": alone_s / median_s,
        **_ceiling(row),
        **_growth(row),
    }


def _ceiling(row: dict[Any, Any]) -> dict[str, float]:
    names = ("over_ceiling_min", "over_ceiling", "over_ceiling_max")
    others = (*(f"{bound}_s" for bound in BOUNDS), "ceiling_ttft_s", "ceiling_time_per_output_token_s")
    if not row["ceiling_rounds_s"]:
        return dict.fromkeys((*names, *others), float("nan"))
    _check_paired(row, "its ceiling", row["ceiling_rounds_s"], row["ceiling_ttft_rounds_s"])
    ratios = [own / ceiling for own, ceiling in zip(row["rounds_s"], row["ceiling_rounds_s"], strict=True)]
    total_s, ttft_s = (float(np.median(row[f"ceiling_{part}rounds_s"])) for part in ("", "ttft_"))
    new_tokens = row["max_new_tokens"]
    per_token_s = time_per_output_token_s(total_s, ttft_s, new_tokens) if new_tokens > 1 else float("nan")
    rounds = (row[f"{bound}_rounds_s"] for bound in BOUNDS)
    bounds = (float(np.median(rounds_s)) if rounds_s else float("nan") for rounds_s in rounds)
    spread = map(float, np.quantile(ratios, [0, 0.5, 1]))
    return dict(zip((*names, *others), (*spread, *bounds, ttft_s, per_token_s), strict=True))


def _growth(row: dict[Any, Any]) -> dict[str, float]:
    names = ("growth_min", "growth", "growth_max")
    if not row["early_rounds_s"]:
        return dict.fromkeys(names, float("nan"))
    _check_paired(row, "its first tokens", row["early_rounds_s"])
    if min(row["max_new_tokens"], row["early_tokens"]) < 2 or min(row["early_rounds_s"]) <= row["ttft_s"]:
        return dict.fromkeys(names, float("nan"))  # no time beside the first token's to compare with
    whole, early = (
        [time_per_output_token_s(total_s, row["ttft_s"], tokens) for total_s in rounds_s]
        for rounds_s, tokens in ((row["rounds_s"], row["max_new_tokens"]), (row["early_rounds_s"], row["early_tokens"]))
    )
    ratios = [whole_s / early_s for whole_s, early_s in zip(whole, early, strict=True)]
    return dict(zip(names, map(float, np.quantile(ratios, [0, 0.5, 1])), strict=True))


def _check_paired(row: dict[Any, Any], whose: str, *others: Sequence[float]) -> None:
    """Refuse rounds that are not as many as the contender's."""
    if {len(rounds_s) for rounds_s in others} != {len(row["rounds_s"])}:
        raise ReportError(f"{_place(row)}: its {len(row['rounds_s'])} rounds cannot be paired with those of {whose}")


def _speedup(row: dict[Any, Any], baseline: dict[Any, Any] | None) -> dict[str, float]:
    names = ("speedup_min", "speedup_q1", "speedup", "speedup_q3", "speedup_max")
    if baseline is None or row["contender"] == BASELINE:
        return dict.fromkeys(names, float("nan"))
    try:
        ratios = paired_ratios(baseline["rounds_s"], row["rounds_s"])
    except ReportError as error:
        raise ReportError(f"{_place(row)}: {error}") from error
    return dict(zip(names, map(float, np.quantile(ratios, [0, 0.25, 0.5, 0.75, 1])), strict=True))


def _ttft_speedup(row: dict[Any, Any], baseline: dict[Any, Any] | None) -> dict[str, float]:
    names = ("ttft_speedup_min", "ttft_speedup", "ttft_speedup_max")
    if baseline is None or row["contender"] == BASELINE:
        return dict.fromkeys(names, float("nan"))
    try:
        ratios = paired_ratios(baseline["ttft_rounds_s"], row["ttft_rounds_s"])
    except ReportError as error:
        raise ReportError(f"{_place(row)}: time to first token: {error}") from error
    return dict(zip(names, map(float, np.quantile(ratios, [0, 0.5, 1])), strict=True))


def _in_order(rows: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """Newest machine first; then fp32 first, small sizes first, few rows first; then the baseline before others."""
    precisions: dict[tuple[str, str, str], tuple[int, str]] = {}
    for row in rows:
        rank = precision_rank(row["precision"])
        precisions[_case(row)] = max(rank, precisions.get(_case(row), rank))
    by_age = sorted(rows, key=lambda row: (row["datetime"], row["run"]), reverse=True)
    machines = list(dict.fromkeys(row["fingerprint"] for row in by_age))
    return sorted(
        rows,
        key=lambda row: (
            machines.index(row["fingerprint"]),
            precisions[_case(row)],
            _rank(row["size"], _SIZES),
            row["prompts"] * row["num_return_sequences"],
            row["num_return_sequences"],
            row["prompt_len"],
            row["max_new_tokens"],
            row["workload"],
            row["group"],
            contender_rank(row["contender"]),
        ),
    )


def precision_rank(name: str) -> tuple[int, str]:
    """Where a precision stands among others: the most exact first, unknown ones last."""
    return _rank(name, _PRECISIONS)


def contender_rank(name: str) -> tuple[int, str]:
    """Where a contender stands beside others: the baseline first, unknown ones last."""
    return _rank(name, tuple(CONTENDERS))


def _rank(name: str, known: Sequence[str]) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known)), name
