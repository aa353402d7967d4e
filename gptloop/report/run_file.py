"""What one saved run holds: pytest-benchmark's JSON and the facts that gptloop's suite adds, checked field by field.

Refuses whatever is not that in one line. Does not know which files of a folder are runs, nor what is compared with
what.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptloop.report.errors import NotOursError, OtherSchemaError, ReportError
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
    RATE,
    RECORDS,
    ROUNDS,
    ROUNDS_OR_NONE,
    SECONDS,
    TEXT,
    Kind,
    Record,
    named,
    read_record,
    utc,
)

SCHEMA = 1

# What a call cannot be faster than, as runs name it and reports call it.
BOUNDS = {"products": "products with weights", "all_products": "all products", "bandwidth": "weights from memory"}

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
    "ttft_s": SECONDS,
    "time_per_output_token_s": NUMBER_OR_NULL,  # null where one new token was asked for: there is no second
    "tokens_per_s": RATE,
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


def rows_of_run(path: Path, folder: Path) -> list[dict[str, Any]]:
    """The rows of `runs.read_runs` that a run's file holds, in the file's order.

    Args:
        path: The file.
        folder: Above it, which its name is told from.

    Raises:
        ReportError: If the file cannot be read, or is no run of gptloop's suite.
        NotOursError: If it is well-formed and somebody else's, or of gptloop's own but no run.
        OtherSchemaError: If it is a run in the form of another version.
    """
    run = read_record(path)
    if "gptloop_kind" in run.values:
        raise NotOursError(f"{path}: is no run: its gptloop_kind is {named(run.values['gptloop_kind'])}")
    return _rows(path, folder, run)


def rows_of_baseline(path: Path) -> list[dict[str, Any]]:
    """The same of a run, or of a baseline, that lies anywhere."""
    return _rows(path, path.parent, read_record(path))


def _rows(path: Path, folder: Path, run: Record) -> list[dict[str, Any]]:
    if not (name := path.relative_to(folder).as_posix()).isprintable():
        raise ReportError(f"{path}: cannot be shown: its name is not printable")
    if _is_of_another_suite(run.values):
        raise NotOursError(f"{path}: a run of another suite than gptloop's")
    facts = {"run": name, **_facts_of_run(run)}
    benchmarks = run.field("benchmarks", RECORDS)
    rows = [facts | _facts_of_benchmark(Record(f"{path}: benchmark {i}", b)) for i, b in enumerate(benchmarks, 1)]
    if not rows:
        raise ReportError(f"{path}: holds no benchmarks (did every one of them fail?)")
    _check_cases(path, rows)
    return rows


def _is_of_another_suite(values: Mapping[str, Any]) -> bool:
    """Whether pytest-benchmark saved it and nothing in it is gptloop's: storage may be shared."""
    machine_info, benchmarks = values.get("machine_info"), values.get("benchmarks")
    if not isinstance(machine_info, dict) or not isinstance(benchmarks, list) or "gptloop" in machine_info:
        return False
    extra = [one.get("extra_info") for one in benchmarks if isinstance(one, dict)]
    return not any(isinstance(info, dict) and "contender" in info for info in extra)


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
        schema = info.values["schema"]
        raise OtherSchemaError(f"{info.place} has schema {schema}, this report reads schema {SCHEMA}")
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
            raise ReportError(f"{path}: case {named(group)} holds contender {named(contender)} twice")
        seen.add((group, contender))
        if row["device"] != row["machine"].device:
            raise ReportError(f"{path}: case {named(group)} ran on {row['device']}, the run on {row['machine'].device}")
        for name in CASE_FIELDS:
            if row[name] != (expected := first.setdefault(group, row)[name]):
                found = f"{name} {named(expected)} and {named(row[name])}"
                raise ReportError(f"{path}: contenders of case {named(group)} disagree: {found}")
