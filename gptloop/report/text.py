"""The one place where the report turns numbers into words, and the Markdown summary made of them.

Knows how a person reads durations, ratios and tables; does not know how a number came about, and draws nothing.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from gptloop.report.compare import BASELINE, CANDIDATE
from gptloop.report.runs import Machine

DASH = "-"

_CASE_HEADERS = ["size", "workload", "prompt + new"]

_TITLES = {BASELINE: "PyTorch loop", CANDIDATE: "ONNX loop", "hf_generate": "Hugging Face generate"}

_HOW_TO_READ = """\
## How to read this

- **Speedup** is the baseline's time over the contender's, formed for each pair of interleaved rounds of one run: the
  median of these ratios, with [min-max]. The baseline is the KV-cached PyTorch loop; above 1.00x is faster than it.
- **Time** is one whole `generate` call: median [min-max] of the rounds. **TTFT**, time to first token, is the same call
  with `max_new_tokens=1`. **Time per output token** is (time - TTFT) / (new tokens - 1). **Tokens/s** counts the new
  tokens of all rows.
- **Parity** comes before time: a contender whose tokens differ has no time. Excused rows left the baseline's path at a
  checked near-tie."""


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them, to three digits: `1.23 s`, `45.6 ms`, `789 us`."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if abs(seconds) * factor >= 0.9995:
            return f"{_three_digits(seconds * factor)} {unit}"
    return f"{_three_digits(seconds * 1e6)} us"


def milliseconds_text(seconds: float) -> str:
    """Seconds as a bare number of milliseconds, for an axis that names the unit."""
    return _three_digits(seconds * 1e3)


def ratio_text(ratio: float) -> str:
    """A ratio as `1.33x`; a very small one keeps two digits rather than turn to 0."""
    if abs(ratio) >= 0.095 or ratio == 0:
        return f"{ratio:.2f}x"
    return f"{ratio:.{1 - math.floor(math.log10(abs(ratio)))}f}x"


def bytes_text(count: float) -> str:
    """Bytes in decimal units, to three digits: `1.23 GB`, `456 MB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * factor:
            return f"{_three_digits(count / factor)} {unit}"
    return f"{count:.0f} B"


def rate_text(per_second: float) -> str:
    """Tokens per second as a bare number, to three digits and whole from there: `45.6`, `1,234`."""
    return _three_digits(per_second)


def contender_title(name: str) -> str:
    """How a contender is called in front of people."""
    return _TITLES.get(name, name)


def hardware_text(machine: Machine) -> str:
    """The machine's hardware and threads in one line."""
    threads = f"{machine.threads} {'thread' if machine.threads == 1 else 'threads'}"
    if machine.gpu is None:
        return f"{machine.cpu}, {machine.device}, {threads}"
    facts = [f"{name} {value}" for name, value in (("CUDA", machine.cuda), ("driver", machine.driver)) if value]
    return ", ".join([machine.gpu, machine.device, *facts, f"host {machine.cpu}", threads])


def versions_text(machine: Machine) -> str:
    """The versions that count for the machine's identity, in one line."""
    return ", ".join(f"{name} {version}" for name, version in machine.versions)


def weights_text(cases: pd.DataFrame) -> str:
    """Where the weights came from; random ones are named as such, and sizes are given where they differ."""
    sizes = cases.groupby("weights", sort=False)["size"].unique()
    if len(sizes) == 1:
        return _weights_words(str(sizes.index[0]))
    return "; ".join(f"{_weights_words(str(weights))} ({', '.join(of)})" for weights, of in sizes.items())


def is_random(cases: pd.DataFrame) -> bool:
    """Whether any case was measured on random weights."""
    return any(_random(weights) for weights in cases["weights"])


def precision_text(cases: pd.DataFrame) -> str:
    """The precisions of the cases, in the order of the report."""
    return ", ".join(cases["precision"].unique())


def tokens_text(cases: pd.DataFrame) -> str:
    """Prompt and new tokens of the cases: `36 prompt + 36 new tokens`."""
    shapes = cases[["prompt_len", "max_new_tokens"]].drop_duplicates().itertuples(index=False)
    return " or ".join(f"{prompt_len} prompt + {new} new" for prompt_len, new in shapes) + " tokens"


def sampling_text(cases: pd.DataFrame) -> str:
    """How the cases drew their tokens: `temperature 1, top_k 50`, or `greedy`."""
    settings = cases[["temperature", "top_k"]].drop_duplicates().itertuples(index=False)
    return " or ".join(f"temperature {t:g}, top_k {top_k}" if t > 0 else "greedy" for t, top_k in settings)


def commits_text(cases: pd.DataFrame) -> str:
    """The commits measured, short, with a word where the tree was dirty."""
    commits = cases.sort_values("datetime")[["commit", "dirty"]].drop_duplicates().itertuples(index=False)
    return ", ".join(f"{commit[:10]} (dirty)" if dirty else commit[:10] for commit, dirty in commits)


def summary_markdown(compared: pd.DataFrame) -> str:
    """The summary that a person pastes into a pull request, in GitHub's Markdown.

    Args:
        compared: The frame of `compare.compare_cases`.
    """
    machines = [_machine_section(cases) for _, cases in compared.groupby("fingerprint", sort=False)]
    return "\n\n".join(["# gptloop benchmark report", *machines, _HOW_TO_READ]) + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int) -> str:
    """A Markdown table with its pipes aligned.

    Args:
        headers: The first line, plain text.
        rows: Cells as plain text; whatever Markdown would take for markup is escaped here.
        numbers_from: The first column that is set flush right.
    """
    lines = [[escape(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * (w - 1) + ":" if i >= numbers_from else "-" * w for i, w in enumerate(widths)]
    padded = [
        [
            cell.rjust(w) if i >= numbers_from else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def escape(text: str) -> str:
    """Plain text as Markdown that renders as that text, in a table cell too (GitHub also reads `$` and `~`)."""
    return re.sub(r"([\\`*\[\]|<>~$&#!]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(float(f"{abs(value):.2e}")))
    return f"{value:,.{max(0, decimals)}f}"


def _or_dash(value: Any, words: Callable[[float], str]) -> str:
    return DASH if pd.isna(value) else words(value)


def _spread(words: Callable[[float], str], middle: float, low: float, high: float) -> str:
    return DASH if pd.isna(middle) else f"{words(middle)} [{words(low)}-{words(high)}]"


def _random(weights: str) -> bool:
    return weights.lower().startswith("random")


def _weights_words(weights: str) -> str:
    return f"seeded random weights ({weights})" if _random(weights) else f"{weights} weights"


def _machine_section(cases: pd.DataFrame) -> str:
    of_random = ", random weights" if is_random(cases) else ""
    parts = [_machine_facts(cases), *_speedup_sections(cases, of_random)]
    parts += [f"### All contenders{of_random}", _contenders_table(cases)]
    if cases["alone_median_s"].notna().any():
        parts.append(_control_section(cases, of_random))
    return "\n\n".join(parts)


def _machine_facts(cases: pd.DataFrame) -> str:
    machine = cases["machine"].iloc[0]
    lines = [f"## {escape(hardware_text(machine))}", "", f"- Weights: {_weights_line(cases)}"]
    lines.append(f"- Versions: {escape(versions_text(machine))}")
    lines += [f"- Run: {_run_line(run)}" for _, run in cases.sort_values("datetime").groupby("run", sort=False)]
    lines.append(f"- Work: {tokens_text(cases)}, {sampling_text(cases)}")
    lines.append(f"- Charts: `charts/*-{machine.slug}.svg` (and `.png`)")
    return "\n".join(lines)


def _weights_line(cases: pd.DataFrame) -> str:
    words = escape(weights_text(cases))
    return f"**{words}: speed does not depend on the values**" if is_random(cases) else words


def _run_line(run: pd.DataFrame) -> str:
    first = run.iloc[0]
    branch = "" if pd.isna(first["branch"]) else f" on {first['branch']}"
    version = "" if pd.isna(first["gptloop"]) else f", gptloop {first['gptloop']}"
    return escape(
        f"{first['run']}, {first['datetime']:%Y-%m-%d %H:%M} UTC, commit {commits_text(run)}{branch}{version}"
    )


def _speedup_sections(cases: pd.DataFrame, of_random: str) -> list[str]:
    """One table for each pair of precisions, fp32 against fp32 first (the frame's own order)."""
    tables: dict[str, list[list[str]]] = {}
    for _, case in cases.groupby("group", sort=False):
        candidate = _contender(case, CANDIDATE)
        baseline = _contender(case, BASELINE)
        precisions = [(row if row is not None else case.iloc[0])["precision"] for row in (candidate, baseline)]
        tables.setdefault(" vs ".join(precisions), []).append(_speedup_cells(case.iloc[0], candidate, baseline))
    headers = [*_CASE_HEADERS, *map(contender_title, (CANDIDATE, BASELINE)), "speedup", "rounds"]
    sections = []
    for precisions_of, rows in tables.items():
        title = f"### Speedup over the KV-cached PyTorch loop, {escape(precisions_of)}{of_random}"
        sections += [title, table(headers, rows, numbers_from=3)]
    return sections


def _contender(case: pd.DataFrame, name: str) -> "pd.Series[Any] | None":
    rows = case[case["contender"] == name]
    return None if rows.empty else rows.iloc[0]


def _speedup_cells(
    facts: "pd.Series[Any]", candidate: "pd.Series[Any] | None", baseline: "pd.Series[Any] | None"
) -> list[str]:
    return [
        *_case_cells(facts),
        DASH if candidate is None else duration_text(candidate["median_s"]),
        DASH if baseline is None else duration_text(baseline["median_s"]),
        DASH if candidate is None else _speedup_cell(candidate),
        DASH if candidate is None else str(len(candidate["rounds_s"])),
    ]


def _case_cells(row: "pd.Series[Any]") -> list[str]:
    return [row["size"], row["workload_title"], f"{row['prompt_len']} + {row['max_new_tokens']}"]


def _speedup_cell(row: "pd.Series[Any]") -> str:
    return _spread(ratio_text, row["speedup"], row["speedup_min"], row["speedup_max"])


def _contenders_table(cases: pd.DataFrame) -> str:
    headers = [*_CASE_HEADERS, "contender", "precision", "time", "speedup", "TTFT", "time per output token", "tokens/s"]
    headers += ["peak memory", "excused rows", "parity"]
    return table(headers, [_contender_cells(row) for _, row in cases.iterrows()], numbers_from=5)


def _contender_cells(row: "pd.Series[Any]") -> list[str]:
    is_baseline = row["contender"] == BASELINE
    return [
        *_case_cells(row),
        contender_title(row["contender"]),
        row["precision"],
        _spread(duration_text, row["median_s"], row["min_s"], row["max_s"]),
        "baseline" if is_baseline else _or_dash(row["speedup"], ratio_text),
        duration_text(row["ttft_s"]),
        _or_dash(row["time_per_output_token_s"], duration_text),
        rate_text(row["tokens_per_s"]),
        _or_dash(row["peak_memory_bytes"], bytes_text),
        DASH if is_baseline else f"{row['parity_excused_rows']} of {row['parity_rows']}",
        row["parity_check"],
    ]


def _control_section(cases: pd.DataFrame, of_random: str) -> str:
    headers = [*_CASE_HEADERS, "contender", "precision", "alone", "interleaved", "alone / interleaved"]
    rows = [_control_cells(row) for _, row in cases[cases["alone_median_s"].notna()].iterrows()]
    title = f"Control: each contender alone in a process of its own, against interleaved with the others{of_random}"
    body = table(headers, rows, numbers_from=5)
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _control_cells(row: "pd.Series[Any]") -> list[str]:
    return [
        *_case_cells(row),
        contender_title(row["contender"]),
        row["precision"],
        duration_text(row["alone_median_s"]),
        duration_text(row["median_s"]),
        ratio_text(row["alone_over_interleaved"]),
    ]
