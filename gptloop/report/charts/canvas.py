"""What all figures have in common: the style, the caption with the machine's facts, the title with the legend."""

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gptloop.report import text

_STYLE = {
    "svg.hashsalt": "gptloop",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}
INK = "#333333"
SMALL = 8.0  # points
NOTE_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # so that no line crosses a note


def styled() -> AbstractContextManager[None]:
    """The style in which a figure is to be made, and to be rendered."""
    return style.context(["default", _STYLE])


def new_figure(width: float, height: float, cases: pd.DataFrame, *notes: Sequence[str]) -> Figure:
    """An empty figure of a size in inches, which says below what was measured where, then notes, a line each."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    lines = [_wrapped(facts, int(width * 16)) for facts in (*_caption(cases), *notes) if facts]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color="#555555")
    return figure


def add_title(figure: Figure, title: str, handles: Sequence[Artist]) -> None:
    """The title and the legend as one, so that the layout keeps them apart."""
    labels = [str(handle.get_label()) for handle in handles]
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=_legend_columns(labels, figure.get_figwidth() * 14),
        title=title,
        title_fontproperties={"size": 13, "weight": "bold"},
        alignment="left",
    )


def say_nothing_to_show(axes: Axes, words: str) -> None:
    """Words in place of a chart."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes)


def left_out(whole: int, shown: int, what: str) -> list[str]:
    """A note on what a chart does not show, as it could not be read or drawn; nothing where it shows all."""
    return [f"{whole - shown:,} of {whole:,} {what} are left out here; the tables have all"] if shown < whole else []


def short(name: str, most: int = 48) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else f"{name[: most - 3]}..."


def _caption(cases: pd.DataFrame) -> list[list[str]]:
    machine = cases["machine"].iloc[0]
    work = [text.precision_text(cases), text.weights_text(cases), text.tokens_text(cases), text.sampling_text(cases)]
    return [
        [text.hardware_text(machine), *work, f"commit {text.commits_text(cases)}"],
        [text.versions_text(machine)],
    ]


def _wrapped(facts: Sequence[str], width: int) -> str:
    """Facts in lines of a width, broken between facts where possible."""
    unbreakable = " | ".join(fact.replace(" ", "\xa0") if len(fact) < width else fact for fact in facts)
    return textwrap.fill(unbreakable, width).replace("\xa0", " ")


def _legend_columns(labels: Sequence[str], width: float) -> int:
    """As many columns, up to four, as fit beside each other in a width in letters."""
    for columns in range(min(4, len(labels)), 1, -1):
        filled = np.array_split([len(label) + 7 for label in labels], columns)  # as matplotlib fills them
        if sum(column.max() for column in filled) <= width:
            return columns
    return 1
