"""Saved runs in: pytest-benchmark's JSON and the facts that gptloop's suite adds to it, as one frame.

Refuses whatever is not that in one line. Does not know what is compared with what, nor how anything is shown.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gptloop.report.disk import read_json
from gptloop.report.errors import ReportError
from gptloop.report.machine import DEVICE, read_machine
from gptloop.report.records import (
    COUNT,
    DATETIME,
    FLAG,
    NATURAL,
    NATURAL_OR_NULL,
    NOT_NEGATIVE,
    NUMBER,
    NUMBER_OR_NULL,
    PAIRS_OR_NONE,
    POSITIVE,
    RECORDS,
    ROUNDS,
    ROUNDS_OR_NONE,
    TEXT,
    Kind,
    Record,
    read_record,
    utc,
)

SCHEMA = 1

# What a call cannot be faster than, as runs name it and reports call it.
BOUNDS = {"products": "products with weights", "all_products": "all products", "bandwidth": "weights from memory"}

_RUN_NAME = re.compile(r"\d{4,}_.*\.json")

_EXTRA_INFO = {
    "size": TEXT,
    "workload": TEXT,
    "workload_title": TEXT,
    "contender": TEXT,
    "precision": TEXT,
    "weights": TEXT,
    "device": DEVICE,
    "prompts": COUNT,
    "prompt_len": COUNT,
    "num_return_sequences": COUNT,
    "max_new_tokens": COUNT,
    "temperature": NOT_NEGATIVE,
    "top_k": NATURAL,
    "ttft_rounds_s": ROUNDS,
    "ttft_s": POSITIVE,
    "time_per_output_token_s": NUMBER_OR_NULL,  # null where one new token was asked for: there is no second
    "tokens_per_s": POSITIVE,
    "load_s": NOT_NEGATIVE,
    "peak_memory_bytes": NATURAL_OR_NULL,
    "alone_rounds_s": ROUNDS_OR_NONE,
}

# What only some contenders have, and no run of before they were introduced.
_OPTIONAL_INFO = {
    "ceiling_kind": Kind(" or ".join(map(repr, BOUNDS)), lambda value: value in tuple(BOUNDS)),
    "early_tokens": COUNT,
    "early_time_per_output_token_s": NUMBER,
}
_EARLY = ("early_tokens", "early_rounds_s", "early_time_per_output_token_s")  # all of them, or none
_OPTIONAL_ROUNDS = (
    *("ceiling_rounds_s", "ceiling_ttft_rounds_s", "early_rounds_s"),
    *(f"{bound}_rounds_s" for bound in BOUNDS),
)
_PASSES = ("own_passes_s", "exchanged_passes_s")

# What a decode step makes a GPU do, as a run that was traced counts it.
STEP_COUNTS = (
    "kernels",
    "host_to_device",
    "device_to_host",
    "synchronisations",
    "pinned_allocations",
    "graph_launches",
)

# What contenders of one case share. Not the precision: an int8 graph is compared with an fp32 loop.
CASE_FIELDS = (
    "size",
    "workload",
    "workload_title",
    "weights",
    "prompts",
    "prompt_len",
    "num_return_sequences",
    "max_new_tokens",
    "temperature",
    "top_k",
)


def read_runs(folder: Path) -> pd.DataFrame:
    """Every benchmark of every run saved below a folder, one row each.

    Runs are `*/NNNN_*.json`. Other JSON files with a top-level `gptloop_kind` are gptloop's own and are passed over.

    Returns:
        A frame with the columns

        - `run` (path below the folder), `datetime` (UTC), `commit`, `branch` (or None), `dirty`, `gptloop` (version or
          None), `huge_page_bytes` (what contenders could have; 0 for none, None where nobody noted): the run;
        - `machine` (a `Machine`), `fingerprint` (its slug): where it was measured;
        - `group`: the case. Contenders of one case in one run were interleaved: round i of one pairs with round i of
          the other;
        - `size`, `workload`, `workload_title`, `weights`, `device`, `prompts`, `prompt_len`, `num_return_sequences`,
          `max_new_tokens`, `temperature`, `top_k`: the case's facts;
        - `contender`, `precision`: what was timed;
        - `rounds_s`, `ttft_rounds_s`, `alone_rounds_s`: lists of raw rounds in seconds, the last one maybe empty;
        - `ttft_s`, `time_per_output_token_s` (or None), `tokens_per_s`, `load_s`, `peak_memory_bytes` (or None);
        - `parity_check`, `parity_rows`, `parity_excused_rows`;
        - where they were measured, else None or an empty list: `ceiling_kind` (one of `BOUNDS`),
          `ceiling_rounds_s` and `ceiling_ttft_rounds_s`, what bounds the contender's call and its first token,
          `products_rounds_s`, `all_products_rounds_s` and `bandwidth_rounds_s`, the bounds of which it is the highest;
          `early_tokens`, `early_rounds_s` and `early_time_per_output_token_s`, the call of so many new tokens;
          `step_counts`, how often a decode step did what `STEP_COUNTS` names, by name;
          `own_passes_s` and `exchanged_passes_s`, of each round what `gptloop.report.placement` reads: seconds before
          and after the call.

    Raises:
        ReportError: If the folder is missing or holds no runs, or if a JSON file below it cannot be read, is not valid,
            or is neither gptloop's own nor a run of its suite.
    """
    rows = [row for path in _run_files(folder) for row in _rows_of_run(path, folder)]
    if not rows:
        raise ReportError(
            f"{folder}: no runs here (MACHINE/NNNN_*.json, saved by pytest benchmarks --benchmark-autosave)"
        )
    return pd.DataFrame.from_records(rows)


def read_run(path: Path) -> pd.DataFrame:
    """One saved run, wherever it lies: the rows of `read_runs`."""
    return pd.DataFrame.from_records(_rows_of_run(path, path.parent))


def newest_cases(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each case on each machine, the rows of the newest run that holds it.

    All contenders of a case come from that one run, so pairs of rounds never mix runs.
    """
    by_age = runs.sort_values(["datetime", "run"], kind="stable")
    newest = by_age.groupby(["fingerprint", "group"])["run"].transform("last")
    return by_age[by_age["run"] == newest].reset_index(drop=True)


def _run_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ReportError(f"{folder}: not a folder" if folder.exists() else f"{folder}: no such folder")
    for path in sorted(path for path in folder.rglob("*.json") if not path.is_dir()):
        if path.parent.parent == folder and _RUN_NAME.fullmatch(path.name):
            yield path
        else:
            _pass_over_our_own(path)


def _pass_over_our_own(path: Path) -> None:
    content = read_json(path)
    if not isinstance(content, dict) or "gptloop_kind" not in content:
        raise ReportError(f"{path}: foreign file: neither a run (MACHINE/NNNN_*.json) nor marked with gptloop_kind")


def _rows_of_run(path: Path, folder: Path) -> list[dict[str, Any]]:
    run = read_record(path)
    if not (name := path.relative_to(folder).as_posix()).isprintable():
        raise ReportError(f"{path}: cannot be shown: its name is not printable")
    facts = {"run": name, **_facts_of_run(run)}
    benchmarks = run.field("benchmarks", RECORDS)
    rows = [facts | _facts_of_benchmark(Record(f"{path}: benchmark {i}", b)) for i, b in enumerate(benchmarks, 1)]
    if not rows:
        raise ReportError(f"{path}: holds no benchmarks (did every one of them fail?)")
    _check_cases(path, rows)
    return rows


def _facts_of_run(run: Record) -> dict[str, Any]:
    machine_info = run.record("machine_info").record("gptloop")
    commit = run.record("commit_info")
    machine = read_machine(machine_info)
    return {
        "datetime": utc(run.field("datetime", DATETIME)),
        "commit": commit.field("id", TEXT),
        "branch": commit.optional("branch"),
        "dirty": commit.field("dirty", FLAG),
        "gptloop": machine_info.record("versions").optional("gptloop"),
        "huge_page_bytes": machine_info.field_or("huge_page_bytes", NATURAL_OR_NULL, None),
        "machine": machine,
        "fingerprint": machine.slug,
    }


def _facts_of_benchmark(benchmark: Record) -> dict[str, Any]:
    info = benchmark.record("extra_info")
    if info.field("schema", NATURAL) != SCHEMA:
        raise ReportError(f"{info.place} has schema {info.values['schema']}, this report reads schema {SCHEMA}")
    parity = info.record("parity")
    if (early := [name for name in _EARLY if name in info.values]) and len(early) < len(_EARLY):
        raise ReportError(f"{info.place} has {', '.join(early)} without the others of {', '.join(_EARLY)}")
    if info.values.get("ceiling_rounds_s") and "ceiling_kind" not in info.values:
        raise ReportError(f"{info.place} has 'ceiling_rounds_s' without 'ceiling_kind'")
    new_tokens = info.field("max_new_tokens", COUNT)
    if new_tokens > 1 and info.field("time_per_output_token_s", NUMBER_OR_NULL) is None:
        raise ReportError(f"{info.place} has no 'time_per_output_token_s' of {new_tokens} new tokens")
    return {
        "group": benchmark.field("group", TEXT),
        **{name: info.field(name, kind) for name, kind in _EXTRA_INFO.items()},
        **{name: info.field_or(name, kind, None) for name, kind in _OPTIONAL_INFO.items()},
        **{name: info.field_or(name, ROUNDS_OR_NONE, []) for name in _OPTIONAL_ROUNDS},
        **{name: info.field_or(name, PAIRS_OR_NONE, []) for name in _PASSES},
        "step_counts": _step_counts(info),
        "rounds_s": benchmark.record("stats").field("data", ROUNDS),
        "parity_check": parity.field("check", TEXT),
        "parity_rows": parity.field("rows", NATURAL),
        "parity_excused_rows": parity.field("excused_rows", NATURAL),
    }


def _step_counts(info: Record) -> dict[str, float] | None:
    if "step_counts" not in info.values:
        return None
    counts = info.record("step_counts")
    return {name: counts.field(name, NUMBER) for name in STEP_COUNTS}


def _check_cases(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One case in one run: each contender once, all on the same work, on the device of the run."""
    first: dict[str, Mapping[str, Any]] = {}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        group, contender = row["group"], row["contender"]
        if (group, contender) in seen:
            raise ReportError(f"{path}: case {group!r} holds contender {contender!r} twice")
        seen.add((group, contender))
        if row["device"] != row["machine"].device:
            raise ReportError(f"{path}: case {group!r} ran on {row['device']}, the run on {row['machine'].device}")
        for name in CASE_FIELDS:
            if row[name] != (expected := first.setdefault(group, row)[name]):
                raise ReportError(
                    f"{path}: contenders of case {group!r} disagree: {name} {expected!r} and {row[name]!r}"
                )
