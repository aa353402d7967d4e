"""Verdicts as a person reads them, in Markdown: what they add up to, and a table for each quantity."""

from collections.abc import Sequence

from gptloop.report.markdown import escape, table
from gptloop.report.text import DASH, bytes_text, duration_text, ratio_text
from gptloop.report.verdicts import Quantity, Value, Verdict, budget_text, percent_text

_WORSE = {Quantity.TIME: "slower", Quantity.MEMORY: "with more memory"}

HEADERS = ("case", "verdict", "effect", "95 % interval", "noise floor", "budget", "base", "change")


def verdicts_text(verdicts: Sequence[Verdict]) -> str:
    """What they add up to, in a sentence of Markdown."""
    return f"**{escape(conclusion_text(verdicts))}**"


def conclusion_text(verdicts: Sequence[Verdict]) -> str:
    """The same as plain text."""
    if not verdicts:
        return "Nothing was judged; that is not a pass."
    unjudged = [one for one in verdicts if one.value in (Value.MISSING, Value.UNSTABLE)]
    if any(one.value is Value.REGRESSION for one in verdicts):
        found = [
            f"{_count(cases)} {words} than allowed ({', '.join(cases)})"
            for quantity, words in _WORSE.items()
            if (cases := [one.case for one in verdicts if (one.value, one.quantity) == (Value.REGRESSION, quantity)])
        ]
        return f"The gate fails: {'; '.join(found)}."
    if unjudged:
        names = list(dict.fromkeys(one.case for one in unjudged))
        return f"The gate cannot judge {_count(names)} ({', '.join(names)}); that is not a pass."
    names = list(dict.fromkeys(one.case for one in verdicts))
    more = ", or takes more memory" * any(one.quantity is Quantity.MEMORY for one in verdicts)
    return f"The gate passes: none of {_count(names)} became slower than allowed{more}."


def verdicts_table(verdicts: Sequence[Verdict]) -> str:
    """A Markdown table for each quantity, and below it a line on each verdict that is not `unchanged`."""
    of_quantities = [[one for one in verdicts if one.quantity is quantity] for quantity in Quantity]
    return "\n\n".join(_table(some) for some in of_quantities if some)


def _table(verdicts: Sequence[Verdict]) -> str:
    headers = [f"change of {verdicts[0].quantity}" if header == "effect" else header for header in HEADERS]
    with_speedup = any(one.change_speedup is not None for one in verdicts)
    headers += ["speedup over PyTorch"] * with_speedup
    rows = [[*verdict_cells(one), *([_speedup_cell(one)] * with_speedup)] for one in verdicts]
    cases: dict[tuple[Value, str], list[str]] = {}
    for one in verdicts:
        if one.value is not Value.UNCHANGED:
            cases.setdefault((one.value, one.reason), []).append(one.case)
    lines = [f"- **{value}**, {escape(', '.join(of))}: {escape(reason)}" for (value, reason), of in cases.items()]
    return "\n\n".join([table(headers, rows, "ll" + "r" * (len(headers) - 2)), *(["\n".join(lines)] if lines else [])])


def _count(cases: Sequence[str]) -> str:
    return f"{len(cases)} gated {'case' if len(cases) == 1 else 'cases'}"


def verdict_cells(one: Verdict) -> list[str]:
    """A row of `HEADERS`."""
    effect, interval = DASH, DASH
    if one.estimate:
        effect = percent_text(one.estimate.effect)
        interval = f"{percent_text(one.estimate.low)} to {percent_text(one.estimate.high)}"
    floor = DASH
    if one.floor:
        floor = f"{percent_text(one.floor.effect)[1:]}{'' if one.floor.calibrated else ' (assumed)'}"
    if one.quantity is Quantity.TIME:
        values = [DASH if s is None else duration_text(s) for s in (one.base_s, one.change_s)]
    else:
        values = [DASH if count is None else bytes_text(count) for count in (one.base_bytes, one.change_bytes)]
    return [one.case, one.value.value, effect, interval, floor, budget_text(one.budget), *values]


def _speedup_cell(one: Verdict) -> str:
    before, after = (DASH if x is None else ratio_text(x) for x in (one.base_speedup, one.change_speedup))
    return f"{before} before, {after} now"
