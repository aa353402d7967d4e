"""A colour for each name, the same in all charts of a report."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from gptloop.report.contenders import CONTENDERS

Colours = Mapping[str, str]

# From Tol's medium contrast, and for workloads his light: colour-blind safe, as those of known contenders.
_OTHER_CONTENDERS = ("#6699CC", "#004488", "#994455", "#000000")
_WORKLOAD_COLOURS = {"1x1": "#77AADD", "8x1": "#44BB99", "64x1": "#EEDD88", "1x64": "#EE8866"}
_OTHER_WORKLOADS = ("#99DDFF", "#BBCC33", "#FFAABB", "#AAAA00", "#DDDDDD")


def workload_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each workload; give the whole frame, so that all charts of a report agree."""
    return _colours(compared["workload"].unique(), _WORKLOAD_COLOURS, _OTHER_WORKLOADS)


def contender_colours(compared: pd.DataFrame) -> dict[str, str]:
    """A colour for each contender; give the whole frame, so that all charts of a report agree."""
    known = {name: one.colour for name, one in CONTENDERS.items()}
    return _colours(compared["contender"].unique(), known, _OTHER_CONTENDERS)


def _colours(names: Iterable[str], known: Colours, others: Sequence[str]) -> dict[str, str]:
    unknown = sorted(set(names) - known.keys())
    return {**known, **{name: others[i % len(others)] for i, name in enumerate(unknown)}}
