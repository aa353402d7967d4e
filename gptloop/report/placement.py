"""Where the cores were during each round, from what a run saved beside its calls, and times and speedups by it.

The cores of a virtual machine may be elsewhere from one minute to the next: likely next to each other behind one cache,
apart behind two, or as the two hardware threads of one core. What a round took then depends on when it was, and
contenders do not feel it alike. A run saves how long a small parallel pass took before and after each call: `own`, in
which each thread reads what it wrote itself, and `exchanged`, in which it reads what the others wrote.

Knows passes and rounds; words nothing.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gptloop.report.compare import paired_ratios
from gptloop.report.contenders import BASELINE
from gptloop.report.errors import ReportError
from gptloop.report.records import named

NEAR, APART, ONE_CORE, MOVED = PLACEMENTS = ("near", "apart", "one core", "moved")

# How many times a pass's least time on this machine. On two virtual cores, watched for minutes, an exchanged pass took
# 3.7 times it or at most 1.2 times, and an own pass 1.9 times or at most 1.45 times; beside the calls of saved runs a
# few passes lie in between (1.6 of an exchanged one, 1.8 of an own one).
APART_FROM = 2.0
ONE_CORE_FROM = 1.65

Pair = Sequence[float]  # before and after a call


def by_placement(compared: pd.DataFrame) -> pd.DataFrame:
    """Times and speedups of each contender, apart for each placement of the cores that its rounds met.

    Args:
        compared: The frame of `compare.compare_cases`, or a part of it with whole cases.

    Returns:
        Of the cases in which the cores were at more than one place, the frame's rows, one for each placement that the
        contender met, in the frame's order, then in that of `PLACEMENTS`. Added is `placement`; replaced are, by those
        of the rounds with that placement, `rounds_s`, `median_s`, `min_s`, `max_s`; and `speedup`, `speedup_min` and
        `speedup_max` by those of the rounds in which the baseline had it, too, NaN where there are none. All other
        columns stay those of all rounds. A round has the placement of before and after its call, or "moved" if they
        differ; near is what is as near as the best pass that the machine's runs in the frame have.

    Raises:
        ReportError: If a contender has passes beside more or fewer rounds than it has.
    """
    rows = []
    for _, machine in compared.groupby("fingerprint", sort=False):
        least = tuple(_least(machine[column]) for column in ("own_passes_s", "exchanged_passes_s"))
        for _, case in machine.groupby("group", sort=False):
            placed = {row["contender"]: (row, _placements(row, *least)) for row in case.to_dict("records")}
            if len({place for _, places in placed.values() for place in places}) > 1:
                rows += [
                    _of_rounds(row, places, place, placed.get(BASELINE))
                    for row, places in placed.values()
                    for place in PLACEMENTS
                    if place in places
                ]
    return pd.DataFrame.from_records(rows)


def _least(passes_s: Iterable[Sequence[Pair]]) -> float:
    return min((seconds for pairs in passes_s for pair in pairs for seconds in pair), default=float("nan"))


def _placements(row: dict[Any, Any], least_own_s: float, least_exchanged_s: float) -> list[str]:
    """The placement of each round; none where the run did not note it."""
    own, exchanged = row["own_passes_s"], row["exchanged_passes_s"]
    if not own and not exchanged:
        return []
    if not len(own) == len(exchanged) == len(row["rounds_s"]):
        raise ReportError(
            f"{row['run']}: case {named(row['group'])}, contender {named(row['contender'])}: passes beside {len(own)} "
            f"and {len(exchanged)} of its {len(row['rounds_s'])} rounds"
        )

    def placement(own_s: float, exchanged_s: float) -> str:
        if exchanged_s > APART_FROM * least_exchanged_s:
            return APART
        return ONE_CORE if own_s > ONE_CORE_FROM * least_own_s else NEAR

    moments = [map(placement, *pairs) for pairs in zip(own, exchanged, strict=True)]
    return [before if before == after else MOVED for before, after in moments]


def _of_rounds(
    row: dict[Any, Any], places: Sequence[str], place: str, baseline: tuple[dict[Any, Any], Sequence[str]] | None
) -> dict[Any, Any]:
    """The contender's row with nothing but the rounds of one placement; places of the baseline's beside its row."""
    rounds = [i for i, own in enumerate(places) if own == place]
    rounds_s = [row["rounds_s"][i] for i in rounds]
    speedup = [float("nan")] * 3
    if baseline and row["contender"] != BASELINE:
        ratios = paired_ratios(baseline[0]["rounds_s"], row["rounds_s"])
        if alike := [ratios[i] for i in rounds if list(baseline[1][i : i + 1]) == [place]]:
            speedup = list(map(float, np.quantile(alike, [0, 0.5, 1])))
    return row | {
        "placement": place,
        "rounds_s": rounds_s,
        "median_s": float(np.median(rounds_s)),
        "min_s": min(rounds_s),
        "max_s": max(rounds_s),
        **dict(zip(("speedup_min", "speedup", "speedup_max"), speedup, strict=True)),
    }
