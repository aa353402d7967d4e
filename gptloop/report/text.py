"""The one place where the report turns numbers and facts into words.

Knows how a person reads durations, ratios and the facts of a case; does not know how a number came about.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from gptloop import quantities
from gptloop.report.compare import precision_rank
from gptloop.report.contenders import CONTENDERS
from gptloop.report.machine import Machine

DASH = "-"
_MOST_COMMITS = 4
_MOST_NAMED = 12

Row = Mapping[Any, Any]

# As everywhere in the package.
duration_text, duration_spread_text = quantities.duration_text, quantities.duration_spread_text
milliseconds_text, rate_text, bytes_text = quantities.milliseconds_text, quantities.rate_text, quantities.bytes_text


def ratio_text(ratio: float) -> str:
    """A ratio as `1.33x`; a very small one keeps two digits rather than turn to 0."""
    if abs(ratio) >= 0.095 or ratio == 0:
        return f"{ratio:.2f}x"
    return f"{ratio:.{1 - math.floor(math.log10(abs(ratio)))}f}x"


def ratio_spread_text(middle: float, low: float, high: float) -> str:
    """A median ratio with its spread: `1.33x [1.28-1.41]`; a dash where there is none."""
    if pd.isna(middle):
        return DASH
    return f"{ratio_text(middle)} [{ratio_text(low)[:-1]}-{ratio_text(high)[:-1]}]"


def times_text(count: float) -> str:
    """How often, on average, as a bare number: whole, or with a digit behind the point."""
    return f"{round(count, 1) + 0.0:,.1f}".removesuffix(".0")  # + 0.0 turns a -0.0 into 0.0


def contender_title(name: str) -> str:
    """How a contender is called in front of people."""
    return CONTENDERS[name].title if name in CONTENDERS else name


def hardware_text(machine: Machine) -> str:
    """The machine's hardware and threads in one line."""
    threads = f"{machine.threads} {'thread' if machine.threads == 1 else 'threads'}"
    if machine.gpu is None:
        features = f" ({', '.join(machine.cpu_features)})" if machine.cpu_features else ""
        return f"CPU {machine.cpu}{features}, {threads}"
    facts = [f"{name} {value}" for name, value in (("CUDA", machine.cuda), ("driver", machine.driver)) if value]
    return ", ".join([f"GPU {machine.gpu}", *facts, f"host {machine.cpu}", threads])


def versions_text(machine: Machine) -> str:
    """The versions that count for the machine's identity, in one line."""
    return ", ".join(f"{name} {version}" for name, version in machine.versions)


def weights_text(cases: pd.DataFrame) -> str:
    """Where the weights came from; random ones are named as such, and sizes are given where they differ."""
    sizes = cases.groupby("weights", sort=False)["size"].unique()
    if len(sizes) == 1:
        return _weights_words(str(sizes.index[0]))
    return "; ".join(
        _some([f"{_weights_words(str(weights))} ({', '.join(_some(of))})" for weights, of in sizes.items()])
    )


def precision_text(cases: pd.DataFrame) -> str:
    """The precisions of the cases, the most exact first."""
    return ", ".join(_some(sorted(cases["precision"].unique(), key=precision_rank)))


def tokens_text(cases: pd.DataFrame) -> str:
    """Prompt and new tokens of the cases: `36 prompt + 36 new tokens`."""
    shapes = cases[["prompt_len", "max_new_tokens"]].drop_duplicates().itertuples(index=False)
    return " or ".join(_some([f"{prompt_len} prompt + {new} new" for prompt_len, new in shapes])) + " tokens"


def workload_text(row: Row, cases: pd.DataFrame) -> str:
    """The workload's title, with its prompt and new tokens where the cases differ in them."""
    varied = len(cases[["prompt_len", "max_new_tokens"]].drop_duplicates()) > 1
    return (
        f"{row['workload_title']}, {row['prompt_len']} + {row['max_new_tokens']} tokens"
        if varied
        else row["workload_title"]
    )


def sampling_text(cases: pd.DataFrame) -> str:
    """How the cases drew their tokens: `temperature 1, top_k 50`, or `greedy`."""
    settings = cases[["temperature", "top_k"]].drop_duplicates().itertuples(index=False)
    words = [f"temperature {t:g}, top_k {top_k}" if t > 0 else "greedy" for t, top_k in settings]
    return " or ".join(_some(list(dict.fromkeys(words))))


def commits_text(cases: pd.DataFrame) -> str:
    """The commits measured, short, with a word where the tree was dirty; of many, the first and the last."""
    commits = cases.sort_values("datetime")[["commit", "dirty"]].drop_duplicates().itertuples(index=False)
    words = [f"{commit[:10]} (dirty)" if dirty else commit[:10] for commit, dirty in commits]
    return ", ".join(words) if len(words) <= _MOST_COMMITS else f"{words[0]} to {words[-1]} ({len(words)} commits)"


def run_lines(cases: pd.DataFrame) -> list[str]:
    """The runs that the cases are from, oldest first: time, commit, what it gave, versions, and the file last."""
    lines = []
    for name, run in cases.sort_values("datetime").groupby("run", sort=False):
        first = run.iloc[0]
        branch = "" if pd.isna(first["branch"]) else f" on {first['branch']}"
        version = "" if pd.isna(first["gptloop"]) else f", gptloop {first['gptloop']}"
        huge = "" if pd.isna(first["huge_page_bytes"]) else f", {_huge_pages_text(first['huge_page_bytes'])}"
        given = ", ".join(_some(list(dict.fromkeys(run["group"]))))
        at = f"{first['datetime']:%Y-%m-%d %H:%M} UTC"
        lines.append(f"{at}, commit {commits_text(run)}{branch}{version}{huge}: {given} ({name})")
    return lines


def grids_text(cases: pd.DataFrame) -> str:
    """That cases are from several runs, which had other grids; nothing where they are from one."""
    runs = cases["run"].nunique()
    if runs == 1:
        return ""
    return (
        f"The cases below are from {runs} runs that did not measure the same ones: each case is from the newest run "
        "that holds it, and no ratio mixes runs."
    )


def _huge_pages_text(page_bytes: float) -> str:
    return f"huge pages of {int(page_bytes):,} bytes" if page_bytes else "no huge pages"


def _some(words: Sequence[str]) -> list[str]:
    """Words for one line: all, or the first and how many there are beside them."""
    beyond = len(words) - _MOST_NAMED
    return [*words] if beyond <= 0 else [*words[:_MOST_NAMED], f"{beyond:,} more"]


def or_dash(value: Any, words: Callable[[float], str]) -> str:
    """A number in words, or a dash where there is none."""
    return DASH if pd.isna(value) else words(value)


def _random(weights: str) -> bool:
    return weights.lower().startswith("random")


def _weights_words(weights: str) -> str:
    return f"seeded random weights ({weights})" if _random(weights) else f"{weights} weights"


def of_random_text(cases: pd.DataFrame) -> str:
    """What a table's title says of its weights; nothing where they are pretrained."""
    random = [_random(weights) for weights in cases["weights"].unique()]
    return ", random weights" if all(random) else ", some with random weights" if any(random) else ""
