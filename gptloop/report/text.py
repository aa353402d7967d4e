"""The one place where the report turns numbers into words, and the Markdown summary made of them.

Knows how a person reads durations, ratios and tables; does not know how a number came about, and draws nothing.
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gptloop.report.compare import BASELINE, CANDIDATE, precision_rank
from gptloop.report.placement import by_placement
from gptloop.report.runs import BOUNDS, Machine

DASH = "-"
_MOST_COMMITS = 4

Row = Mapping[Any, Any]

_TITLES = {
    BASELINE: "PyTorch loop",
    "torch_tiled": "PyTorch loop, tiled",
    "torch_int8": "PyTorch loop, int8",
    "torch_compiled": "Hugging Face, compiled",
    "hf_generate": "Hugging Face generate",
    "ctranslate2": "CTranslate2",
    "ctranslate2_int8": "CTranslate2, int8",
    "openvino": "OpenVINO, our file",
    "onnx_step": "ONNX, a step per run",
    CANDIDATE: "ONNX loop",
    "onnx_int8": "ONNX loop, int8",
}

# What each word of the report means; `code` in backticks, for Markdown and the page alike.
DEFINITIONS = {
    "Speedup": "is the baseline's time over the contender's, formed for each pair of interleaved rounds of one run: "
    "the median of these ratios, with [min-max]. The baseline is the KV-cached PyTorch loop; above 1.00x is faster.",
    "Time": "is one whole `generate` call: median [min-max] of the rounds.",
    "TTFT": "(time to first token) is the same call with `max_new_tokens=1`.",
    "Time per output token": "is (time - TTFT) / (new tokens - 1).",
    "Tokens/s": "counts the new tokens of all rows.",
    "Growth": "is the time per output token over that of a call for the first new tokens alone, paired by round (TTFT "
    "is the median): 1 says that a long text costs no more per token than a short one.",
    "Load": "is from files on disk to ready, in a process of its own (imports included).",
    "Time / ceiling": "is the contender's time over what it cannot be faster than on this machine, paired by round: "
    "the call's matrix products alone (the same shapes, runtime, threads and weights; those of attention included, "
    "where they were measured), or its matrices' way from memory, once for each pass, at the bandwidth measured beside "
    "it; whichever takes longer. It marks the latency chart.",
    "Cores": "tell how the machine's cores seem to be placed before and after a call, which a virtual machine's host "
    "may change: near, apart, as one core's two hardware threads, or moved in between; by small parallel passes beside "
    "the calls, in which threads read what they or what others wrote, against the fastest of the machine. A speedup "
    "there is of the rounds in which the baseline's cores were placed alike.",
    "Peak memory": "is that of the contender alone in a process of its own, its weights included.",
    "Parity": "comes before time: a contender whose tokens differ has no time. Excused rows left the baseline's path "
    "at a checked near-tie.",
}

SPEEDUP_HEADERS = ("size", "workload", _TITLES[CANDIDATE], _TITLES[BASELINE], "speedup", "rounds")
CONTENDER_HEADERS = (
    *("contender", "precision", "time", "speedup", "TTFT", "time per output token"),
    *("tokens/s", "time / ceiling", "load", "peak memory", "parity"),
)
CEILING_TITLE = "Ceiling"
CEILING_HEADERS = (
    *("contender", "precision", "time", *BOUNDS.values()),
    *("bound by", "time / ceiling"),
)
GROWTH_TITLE = "Growth with the length"
GROWTH_HEADERS = (
    *("contender", "precision", "new tokens", "time per output token"),
    *("first new tokens", "over those", "growth"),
)
PLACEMENT_TITLE = "Where the cores were: the rounds of each contender by placement"
PLACEMENT_HEADERS = ("contender", "precision", "cores", "rounds", "time", "speedup")
CONTROL_TITLE = "Control: each contender alone in a process of its own, against interleaved with the others"
CONTROL_HEADERS = ("contender", "precision", "alone", "interleaved", "alone / interleaved")


def duration_text(seconds: float) -> str:
    """Seconds in the unit that suits them, to three digits: `1.23 s`, `45.6 ms`, `789 us`."""
    factor, unit = _duration_unit(seconds)
    return f"{_three_digits(seconds * factor)} {unit}"


def milliseconds_text(seconds: float) -> str:
    """Seconds as a bare number of milliseconds, for an axis that names the unit."""
    return _three_digits(seconds * 1e3)


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


def duration_spread_text(middle: float, low: float, high: float) -> str:
    """A median duration with its spread in the same unit: `963 ms [920-998]`."""
    factor, unit = _duration_unit(middle)
    return f"{_three_digits(middle * factor)} {unit} [{_three_digits(low * factor)}-{_three_digits(high * factor)}]"


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
        return f"CPU {machine.cpu}, {threads}"
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
    return "; ".join(f"{_weights_words(str(weights))} ({', '.join(of)})" for weights, of in sizes.items())


def precision_text(cases: pd.DataFrame) -> str:
    """The precisions of the cases, the most exact first."""
    return ", ".join(sorted(cases["precision"].unique(), key=precision_rank))


def tokens_text(cases: pd.DataFrame) -> str:
    """Prompt and new tokens of the cases: `36 prompt + 36 new tokens`."""
    shapes = cases[["prompt_len", "max_new_tokens"]].drop_duplicates().itertuples(index=False)
    return " or ".join(f"{prompt_len} prompt + {new} new" for prompt_len, new in shapes) + " tokens"


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
    return " or ".join(f"temperature {t:g}, top_k {top_k}" if t > 0 else "greedy" for t, top_k in settings)


def commits_text(cases: pd.DataFrame) -> str:
    """The commits measured, short, with a word where the tree was dirty; of many, the first and the last."""
    commits = cases.sort_values("datetime")[["commit", "dirty"]].drop_duplicates().itertuples(index=False)
    words = [f"{commit[:10]} (dirty)" if dirty else commit[:10] for commit, dirty in commits]
    return ", ".join(words) if len(words) <= _MOST_COMMITS else f"{words[0]} to {words[-1]} ({len(words)} commits)"


def run_lines(cases: pd.DataFrame) -> list[str]:
    """The runs that the cases are from, oldest first: file, time, commit, branch, gptloop's version, huge pages."""
    lines = []
    for name, run in cases.sort_values("datetime").groupby("run", sort=False):
        first = run.iloc[0]
        branch = "" if pd.isna(first["branch"]) else f" on {first['branch']}"
        version = "" if pd.isna(first["gptloop"]) else f", gptloop {first['gptloop']}"
        huge = "" if pd.isna(first["huge_page_bytes"]) else f", {_huge_pages_text(first['huge_page_bytes'])}"
        at = f"{first['datetime']:%Y-%m-%d %H:%M} UTC"
        lines.append(f"{name}, {at}, commit {commits_text(run)}{branch}{version}{huge}")
    return lines


def _huge_pages_text(page_bytes: float) -> str:
    return f"huge pages of {int(page_bytes):,} bytes" if page_bytes else "no huge pages"


def summary_markdown(compared: pd.DataFrame, *sections: str) -> str:
    """The summary that a person pastes into a pull request, in GitHub's Markdown.

    Args:
        compared: The frame of `compare.compare_cases`.
        sections: Markdown that comes before the tables, such as the verdicts.
    """
    machines = [_machine_section(cases) for _, cases in compared.groupby("fingerprint", sort=False)]
    return "\n\n".join(["# gptloop benchmark report", *sections, *machines, _how_to_read()]) + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """A Markdown table with its pipes aligned.

    Args:
        headers: The first line, plain text.
        rows: Cells as plain text; whatever Markdown would take for markup is escaped here.
        alignment: `l` or `r` for each column.
    """
    lines = [[escape(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [f"{'-' * (width - 1)}{'-' if side == 'l' else ':'}" for width, side in zip(widths, alignment, strict=True)]
    head, *body = [" | ".join(map(_justified, line, widths, alignment)) for line in lines]
    return "\n".join(f"| {line} |" for line in (head, " | ".join(rule), *body))


def escape(text: str) -> str:
    """Plain text as Markdown that renders as that text, in a table cell too (GitHub also reads `$` and `~`)."""
    return re.sub(r"([\\`*|<>~$&#]|\](?=[(\[])|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _three_digits(value: float) -> str:
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(float(f"{abs(value):.2e}")))
    return f"{value:,.{max(0, decimals)}f}"


def _justified(cell: str, width: int, side: str) -> str:
    return cell.ljust(width) if side == "l" else cell.rjust(width)


def _duration_unit(seconds: float) -> tuple[float, str]:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if abs(seconds) * factor >= 0.9995:
            return factor, unit
    return 1e6, "us"


def _or_dash(value: Any, words: Callable[[float], str]) -> str:
    return DASH if pd.isna(value) else words(value)


def _random(weights: str) -> bool:
    return weights.lower().startswith("random")


def _weights_words(weights: str) -> str:
    return f"seeded random weights ({weights})" if _random(weights) else f"{weights} weights"


def of_random_text(cases: pd.DataFrame) -> str:
    """What a table's title says of its weights; nothing where they are pretrained."""
    random = [_random(weights) for weights in cases["weights"].unique()]
    return ", random weights" if all(random) else ", some with random weights" if any(random) else ""


def _how_to_read() -> str:
    bullets = [
        textwrap.fill(f"- **{word}** {meaning}", 120, subsequent_indent="  ", break_on_hyphens=False)
        for word, meaning in DEFINITIONS.items()
    ]
    return "\n".join(["## How to read this", "", *bullets])


def _machine_section(cases: pd.DataFrame) -> str:
    of_random = of_random_text(cases)
    parts = [_machine_facts(cases), *_speedup_sections(cases, of_random)]

    def rows(shown: pd.DataFrame, headers: Sequence[str], cells: Callable[[Row], list[str]], alignment: str) -> str:
        lines = [[*_case_cells(row, cases), *cells(row)] for row in shown.to_dict("records")]
        return table(["size", "workload", *headers], lines, "ll" + alignment)

    parts += [f"### All contenders{of_random}", rows(cases, CONTENDER_HEADERS, contender_cells, "llrrrrrrrrl")]
    if not (bounded := cases[cases["over_ceiling"].notna()]).empty:
        alignment = "ll" + "r" * (1 + len(BOUNDS)) + "lr"
        parts += [f"### {CEILING_TITLE}{of_random}", rows(bounded, CEILING_HEADERS, ceiling_cells, alignment)]
    if not (grown := cases[cases["growth"].notna()]).empty:
        parts += [f"### {GROWTH_TITLE}{of_random}", rows(grown, GROWTH_HEADERS, growth_cells, "llrrrrr")]
    if not (placed := by_placement(cases)).empty:
        shown = rows(placed, PLACEMENT_HEADERS, placement_cells, "lllrrr")
        parts.append(_folded(PLACEMENT_TITLE + of_random, shown))
    if not (controlled := cases[cases["alone_median_s"].notna()]).empty:
        shown = rows(controlled, CONTROL_HEADERS, control_cells, "llrrr")
        parts.append(_folded(CONTROL_TITLE + of_random, shown))
    return "\n\n".join(parts)


def _folded(title: str, shown: str) -> str:
    return f"<details>\n<summary>{title}</summary>\n\n{shown}\n\n</details>"


def _machine_facts(cases: pd.DataFrame) -> str:
    machine = cases["machine"].iloc[0]
    lines = [f"## {escape(hardware_text(machine))}", "", f"- Weights: {_weights_line(cases)}"]
    lines.append(f"- Versions: {escape(versions_text(machine))}")
    lines += [f"- Run: {escape(line)}" for line in run_lines(cases)]
    lines.append(f"- Work: {tokens_text(cases)}, {sampling_text(cases)}")
    lines.append(f"- Charts: `charts/*-{machine.slug}.svg` (and `.png`)")
    return "\n".join(lines)


def _weights_line(cases: pd.DataFrame) -> str:
    words = escape(weights_text(cases))
    return f"**{words}: speed does not depend on the values**" if of_random_text(cases) else words


def _speedup_sections(cases: pd.DataFrame, of_random: str) -> list[str]:
    sections = []
    for precisions, lines in speedup_tables(cases).items():
        title = f"### Speedup over the KV-cached PyTorch loop, {escape(precisions)}{of_random}"
        sections += [title, table(SPEEDUP_HEADERS, lines, "llrrrr")]
    return sections


def speedup_tables(cases: pd.DataFrame) -> dict[str, list[list[str]]]:
    """Cells under `SPEEDUP_HEADERS` by pair of precisions, fp32 against fp32 first (the frame's own order)."""
    tables: dict[str, list[list[str]]] = {}
    for _, case in cases.groupby("group", sort=False):
        rows = {row["contender"]: row for row in case.to_dict("records")}
        candidate, baseline, anyone = rows.get(CANDIDATE), rows.get(BASELINE), next(iter(rows.values()))
        precisions = [(row or anyone)["precision"] for row in (candidate, baseline)]
        cells = [*_case_cells(anyone, cases), *_speedup_cells(candidate, baseline)]
        tables.setdefault(" vs ".join(precisions), []).append(cells)
    return tables


def _speedup_cells(candidate: Row | None, baseline: Row | None) -> list[str]:
    return [
        DASH if candidate is None else duration_text(candidate["median_s"]),
        DASH if baseline is None else duration_text(baseline["median_s"]),
        DASH if candidate is None else _speedup_spread(candidate),
        DASH if candidate is None else str(len(candidate["rounds_s"])),
    ]


def _case_cells(row: Row, cases: pd.DataFrame) -> list[str]:
    return [row["size"], workload_text(row, cases)]


def _speedup_spread(row: Row) -> str:
    return ratio_spread_text(row["speedup"], row["speedup_min"], row["speedup_max"])


def contender_cells(row: Row) -> list[str]:
    """What a table says of a contender on a case, under `CONTENDER_HEADERS`."""
    is_baseline = row["contender"] == BASELINE
    return [
        contender_title(row["contender"]),
        row["precision"],
        duration_spread_text(row["median_s"], row["min_s"], row["max_s"]),
        "baseline" if is_baseline else _speedup_spread(row),
        duration_text(row["ttft_s"]),
        _or_dash(row["time_per_output_token_s"], duration_text),
        rate_text(row["tokens_per_s"]),
        _or_dash(row["over_ceiling"], ratio_text),
        duration_text(row["load_s"]),
        _or_dash(row["peak_memory_bytes"], bytes_text),
        row["parity_check"] if is_baseline else _parity_text(row),
    ]


def _parity_text(row: Row) -> str:
    return f"{row['parity_check']}, {row['parity_excused_rows']} of {row['parity_rows']} rows excused"


def ceiling_cells(row: Row) -> list[str]:
    """What a table says of a contender's ceiling, under `CEILING_HEADERS`."""
    return [
        contender_title(row["contender"]),
        row["precision"],
        duration_text(row["median_s"]),
        *(_or_dash(row[f"{bound}_s"], duration_text) for bound in BOUNDS),
        BOUNDS[row["ceiling_kind"]],
        ratio_spread_text(row["over_ceiling"], row["over_ceiling_min"], row["over_ceiling_max"]),
    ]


def growth_cells(row: Row) -> list[str]:
    """What a table says of how time grows with the length, under `GROWTH_HEADERS`."""
    return [
        contender_title(row["contender"]),
        row["precision"],
        str(row["max_new_tokens"]),
        duration_text(row["time_per_output_token_s"]),
        str(int(row["early_tokens"])),
        duration_text(row["early_time_per_output_token_s"]),
        ratio_spread_text(row["growth"], row["growth_min"], row["growth_max"]),
    ]


def placement_cells(row: Row) -> list[str]:
    """What a table says of a contender's rounds with one placement of the cores, under `PLACEMENT_HEADERS`."""
    return [
        contender_title(row["contender"]),
        row["precision"],
        row["placement"],
        str(len(row["rounds_s"])),
        duration_spread_text(row["median_s"], row["min_s"], row["max_s"]),
        "baseline" if row["contender"] == BASELINE else _speedup_spread(row),
    ]


def control_cells(row: Row) -> list[str]:
    """What a table says of the control of a contender on a case, under `CONTROL_HEADERS`."""
    return [
        contender_title(row["contender"]),
        row["precision"],
        duration_text(row["alone_median_s"]),
        duration_text(row["median_s"]),
        ratio_text(row["alone_over_interleaved"]),
    ]
