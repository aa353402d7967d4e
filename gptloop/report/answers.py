"""What a reader asks first, of one machine: is it faster, by how much, on what, than whom, and did it get worse?

Knows questions and which rows answer them; ratios come from `compare`, words from `text` and `trend_words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gptloop.report import text
from gptloop.report.compare import contender_rank, paired_ratios, precision_rank
from gptloop.report.contenders import CANDIDATE, OWN
from gptloop.report.trend import Trend
from gptloop.report.trend_words import worse_text

_MOST_RIVALS = 12


@dataclass(frozen=True)
class Answer:
    """A question, its answer in a few words, and the grounds, a line each."""

    question: str
    words: str
    grounds: Sequence[str]


def answers(cases: pd.DataFrame, trends: Sequence[Trend], gate: str | None = None) -> list[Answer]:
    """The answers for one machine.

    Args:
        cases: Its rows of the frame of `compare.compare_cases`.
        trends: Its gated cases'.
        gate: What the gate says, where it was asked; it judges the newest run, the trend all of them.
    """
    worse, grounds = worse_text(trends)
    found = [
        _faster(cases),
        _than_whom(cases),
        Answer("On what?", text.hardware_text(cases["machine"].iloc[0]), list(_work(cases))),
        Answer("Did it get worse?", worse, [*([gate] if gate else []), f"Trend: {grounds}."]),
    ]
    return [one for one in found if one.words or one.grounds]


def _faster(cases: pd.DataFrame) -> Answer:
    question = "Is it faster than the PyTorch loop, and by how much?"
    lines, first = [], ""
    for name, own in _own(cases):
        known = own[own["speedup"].notna()]
        if known.empty:
            continue
        span = _span(known["speedup"])
        faster, precision = int((known["speedup"] > 1).sum()), known["baseline_precision"].iloc[0]
        first = first or f"{'Yes' if faster == len(known) else 'Not always' if faster else 'No'}: {span}"
        ttft = known["ttft_speedup"].dropna()
        of_ttft = f"; TTFT {_span(ttft)}" if len(ttft) else ""
        lines.append(f"{name} (PyTorch in {precision}): {span}, faster in {faster} of {_count(known)}{of_ttft}")
    return Answer(question, first or "Nobody knows: no case holds both loops", lines)


def _than_whom(cases: pd.DataFrame) -> Answer:
    """Times of others over those of the ONNX loop in the same precision, by case of one run."""
    own = {(row["group"], row["precision"]): row for row in cases.to_dict("records") if row["contender"] in OWN}
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in cases.to_dict("records"):
        ours = own.get((row["group"], row["precision"]))
        if ours is not None and not row["contender"].startswith(CANDIDATE) and _paired(row, ours):
            ratio = float(np.median(paired_ratios(row["rounds_s"], ours["rounds_s"])))
            ratios.setdefault((row["contender"], row["precision"]), []).append(ratio)
    ranked = sorted(ratios, key=lambda one: (precision_rank(one[1]), contender_rank(one[0])))
    always = sum(min(ratios[one]) > 1 for one in ranked)
    lines = [f"{_span(pd.Series(ratios[one]))}: {_named(*one)}" for one in ranked[:_MOST_RIVALS]]
    if len(ranked) > _MOST_RIVALS:
        lines.append(f"and {len(ranked) - _MOST_RIVALS} more")
    words = f"Than {'all' if always == len(ranked) else f'{always} of'} {len(ranked)} in every case" if ranked else ""
    return Answer("Than whom, in the same precision?", words, lines)


def _named(contender: str, precision: str) -> str:
    title = text.contender_title(contender)
    return title if precision in title else f"{title}, {precision}"


def _paired(row: text.Row, ours: text.Row) -> bool:
    return row["run"] == ours["run"] and len(row["rounds_s"]) == len(ours["rounds_s"])


def _work(cases: pd.DataFrame) -> Iterator[str]:
    sizes = ", ".join(dict.fromkeys(cases["size"]))
    yield f"{_count(cases.drop_duplicates('group'))} of {sizes}; {text.weights_text(cases)}"
    versions = dict(cases["machine"].iloc[0].versions)
    shown = [f"{name} {versions[name]}" for name in ("onnxruntime", "torch") if name in versions]
    dates = sorted({f"{at:%Y-%m-%d}" for at in cases["datetime"]})
    yield f"measured {dates[0] if len(dates) == 1 else f'{dates[0]} to {dates[-1]}'}; {', '.join(shown)}"


def _own(cases: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for contender in OWN:
        for precision, rows in cases[cases["contender"] == contender].groupby("precision", sort=False):
            yield f"In {precision}", rows


def _span(ratios: pd.Series[float]) -> str:
    low, high = (text.ratio_text(x) for x in (ratios.min(), ratios.max()))
    return low if low == high else f"{low[:-1]} to {high}"


def _count(rows: pd.DataFrame) -> str:
    return f"{len(rows)} {'case' if len(rows) == 1 else 'cases'}"
