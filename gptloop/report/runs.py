"""The report's folder: saved runs in, finished files out. No other module of the report touches the disk.

Knows pytest-benchmark's JSON and the facts gptloop's suite adds to it, and refuses whatever is not that in one line.
Does not know what is compared with what, nor how anything is shown.
"""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

SCHEMA = 1

# What a call cannot be faster than, as runs name it and reports call it.
BOUNDS = {"products": "products with weights", "all_products": "all products", "bandwidth": "weights from memory"}

_RUN_NAME = re.compile(r"\d{4,}_.*\.json")
_NOT_OURS = "not a run of gptloop's suite"


class ReportError(ValueError):
    """What keeps a report from being made, in one line that names the file and what is wrong."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """What must be equal for two runs to be from the same machine, wherever their files lie.

    `gpu`, `driver` and `cuda` are None for a run on the CPU. The host's CPU counts on a GPU too, because GPT-2 decodes
    at the speed of kernel launches. gptloop's own version does not count: it is what is measured, not what with.
    """

    device: str
    cpu: str
    gpu: str | None
    driver: str | None
    cuda: str | None
    threads: int
    versions: tuple[tuple[str, str], ...]

    @property
    def slug(self) -> str:
        """A short name for files: device and model for the reader, a hash of every field for certainty."""
        digest = hashlib.sha256(json.dumps(dataclasses.astuple(self)).encode()).hexdigest()[:8]
        plain = re.sub(r"\((r|tm|c)\)|\bprocessor\b|\bcpu\b|@.*", " ", (self.gpu or self.cpu).lower())
        model = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:24].strip("-")
        return "-".join(part for part in (self.device, model, digest) if part)


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


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tables.

    Raises:
        ReportError: If it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ReportError(f"{path}: not valid TOML: {error}") from error


def read_record(path: Path) -> "_Record":
    """A JSON object that is gptloop's own or holds a run."""
    return _Record(str(path), _read_json(path))


def machine_of(facts: Mapping[str, Any]) -> Machine:
    """The machine that the suite's facts describe."""
    return _machine(_Record("machine", facts))


def read_machine(record: "_Record", name: str = "machine") -> Machine:
    """The machine whose facts stand in a field of a record."""
    return _machine(record.record(name))


def check_pair(place: str, pair: Any) -> None:
    """Refuse what is no pair of processes as `benchmarks.turns` records it.

    Raises:
        ReportError: If a field is missing, or arms of a case differ in their number of rounds.
    """
    record = _Record(place, pair)
    record.field("control_s", _ROUNDS)
    cases = record.record("cases")
    for case in cases.values:
        arms = cases.record(case)
        rounds = {arm: len(arms.field(arm, _ROUNDS)) for arm in ("base", "change", *arms.values)}
        if len(set(rounds.values())) != 1:
            raise ReportError(f"{place}: arms of {case!r} differ in their number of rounds: {rounds}")


def newest_cases(runs: pd.DataFrame) -> pd.DataFrame:
    """Of each case on each machine, the rows of the newest run that holds it.

    All contenders of a case come from that one run, so pairs of rounds never mix runs.
    """
    by_age = runs.sort_values(["datetime", "run"], kind="stable")
    newest = by_age.groupby(["fingerprint", "group"])["run"].transform("last")
    return by_age[by_age["run"] == newest].reset_index(drop=True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, each one whole or not at all, and none before all are on the disk.

    Args:
        folder: An existing folder.
        files: Contents by path below it.

    Raises:
        ReportError: If a file cannot be written.
    """
    staged: dict[Path, Path] = {}
    try:
        for name, content in files.items():
            _stage(folder / name, content, staged)
        for temporary, path in staged.items():
            os.replace(temporary, path)
    except OSError as error:
        raise ReportError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file that others write to, too, such as a job's summary.

    Raises:
        ReportError: If the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from error


def _stage(path: Path, content: bytes, staged: dict[Path, Path]) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(None, "a folder stands in its place", str(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    staged[Path(temporary)] = path
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.chmod(temporary, 0o644)  # mkstemp makes it private; charts are to be read by others


def _run_files(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ReportError(f"{folder}: not a folder" if folder.exists() else f"{folder}: no such folder")
    for path in sorted(path for path in folder.rglob("*.json") if not path.is_dir()):
        if path.parent.parent == folder and _RUN_NAME.fullmatch(path.name):
            yield path
        else:
            _pass_over_our_own(path)


def _pass_over_our_own(path: Path) -> None:
    content = _read_json(path)
    if not isinstance(content, dict) or "gptloop_kind" not in content:
        raise ReportError(f"{path}: foreign file: neither a run (MACHINE/NNNN_*.json) nor marked with gptloop_kind")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not valid JSON, truncated perhaps: {error}") from error


def _rows_of_run(path: Path, folder: Path) -> list[dict[str, Any]]:
    run = _Record(str(path), _read_json(path))
    if not (name := path.relative_to(folder).as_posix()).isprintable():
        raise ReportError(f"{path}: cannot be shown: its name is not printable")
    facts = {"run": name, **_facts_of_run(run)}
    benchmarks = run.field("benchmarks", _RECORDS)
    rows = [facts | _facts_of_benchmark(_Record(f"{path}: benchmark {i}", b)) for i, b in enumerate(benchmarks, 1)]
    if not rows:
        raise ReportError(f"{path}: holds no benchmarks (did every one of them fail?)")
    _check_cases(path, rows)
    return rows


def _facts_of_run(run: "_Record") -> dict[str, Any]:
    machine_info = run.record("machine_info").record("gptloop")
    commit = run.record("commit_info")
    machine = _machine(machine_info)
    return {
        "datetime": _utc(run.field("datetime", _DATETIME)),
        "commit": commit.field("id", _TEXT),
        "branch": commit.optional("branch"),
        "dirty": commit.field("dirty", _FLAG),
        "gptloop": machine_info.record("versions").optional("gptloop"),
        "huge_page_bytes": machine_info.field_or("huge_page_bytes", _NATURAL_OR_NULL, None),
        "machine": machine,
        "fingerprint": machine.slug,
    }


def _utc(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment.replace(tzinfo=datetime.UTC) if moment.tzinfo is None else moment.astimezone(datetime.UTC)


def _machine(info: "_Record") -> Machine:
    device = info.field("device", _DEVICE)
    on_gpu = device == "cuda"
    versions = info.record("versions")
    named = ((name, versions.field(name, _TEXT_OR_NULL)) for name in sorted(versions.values) if name != "gptloop")
    return Machine(
        device=device,
        cpu=info.field("cpu", _TEXT),
        gpu=info.field("gpu", _TEXT) if on_gpu else None,
        driver=info.field("driver", _TEXT_OR_NULL) if on_gpu else None,
        cuda=info.field("cuda", _TEXT_OR_NULL) if on_gpu else None,
        threads=info.field("threads", _COUNT),
        versions=tuple((name, version) for name, version in named if version is not None),
    )


def _facts_of_benchmark(benchmark: "_Record") -> dict[str, Any]:
    info = benchmark.record("extra_info")
    if info.field("schema", _NATURAL) != SCHEMA:
        raise ReportError(f"{info.place} has schema {info.values['schema']}, this report reads schema {SCHEMA}")
    parity = info.record("parity")
    if (early := [name for name in _EARLY if name in info.values]) and len(early) < len(_EARLY):
        raise ReportError(f"{info.place} has {', '.join(early)} without the others of {', '.join(_EARLY)}")
    return {
        "group": benchmark.field("group", _TEXT),
        **{name: info.field(name, kind) for name, kind in _EXTRA_INFO.items()},
        **{name: info.field_or(name, kind, None) for name, kind in _OPTIONAL_INFO.items()},
        **{name: info.field_or(name, _ROUNDS_OR_NONE, []) for name in _OPTIONAL_ROUNDS},
        **{name: info.field_or(name, _PAIRS_OR_NONE, []) for name in _PASSES},
        "rounds_s": benchmark.record("stats").field("data", _ROUNDS),
        "parity_check": parity.field("check", _TEXT),
        "parity_rows": parity.field("rows", _NATURAL),
        "parity_excused_rows": parity.field("excused_rows", _NATURAL),
    }


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


@dataclasses.dataclass(frozen=True)
class _Kind:
    words: str
    accepts: Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class _Record:
    """A JSON object, and the words that say where it stands."""

    place: str
    values: Any

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise ReportError(f"{self.place} is not a JSON object: {_NOT_OURS}")

    def field(self, name: str, kind: _Kind) -> Any:
        if name not in self.values:
            raise ReportError(f"{self.place} has no {name!r}: {_NOT_OURS}{_hint(name)}")
        if not kind.accepts(value := self.values[name]):
            raise ReportError(f"{self.place} has {name!r} = {_shown(value)}, expected {kind.words}")
        return value

    def optional(self, name: str) -> str | None:
        """Printable text, or None where it is null or absent."""
        text: str | None = self.field_or(name, _TEXT_OR_NULL, None)
        return text

    def field_or(self, name: str, kind: _Kind, default: Any) -> Any:
        """A field that runs of before it was introduced lack."""
        return self.field(name, kind) if name in self.values else default

    def record(self, name: str) -> "_Record":
        return _Record(f"{self.place}: {name}", self.field(name, _RECORD))


def _hint(name: str) -> str:
    return " (raw rounds are saved with --benchmark-save-data)" if name == "data" else ""


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_text(value: object) -> bool:
    # Unprintable characters would break a line of text, a table or an SVG.
    return isinstance(value, str) and value.isprintable() and value.strip() != ""


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return _is_whole(value, -(2**63))


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _is_datetime(value: Any) -> bool:
    try:
        _utc(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _are_rounds(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_positive, value))


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and all(_are_rounds(pair) and len(pair) == 2 for pair in value)


_RECORD = _Kind("a JSON object", lambda value: isinstance(value, dict))
_RECORDS = _Kind("a list", lambda value: isinstance(value, list))
_TEXT = _Kind("printable text", is_text)
_TEXT_OR_NULL = _Kind("printable text or null", lambda value: value is None or is_text(value))
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_DEVICE = _Kind("'cpu' or 'cuda'", lambda value: value in ("cpu", "cuda"))
_DATETIME = _Kind("an ISO 8601 time", _is_datetime)
_COUNT = _Kind("a whole number above 0", lambda value: _is_whole(value, 1))
_NATURAL = _Kind("a whole number", lambda value: _is_whole(value, 0))
_NATURAL_OR_NULL = _Kind("a whole number or null", lambda value: value is None or _is_whole(value, 0))
_NOT_NEGATIVE = _Kind("a number of at least 0", lambda value: is_number(value) and value >= 0)
_POSITIVE = _Kind("a number above 0", _is_positive)
_NUMBER = _Kind("a number", is_number)
_NUMBER_OR_NULL = _Kind("a number or null", lambda value: value is None or is_number(value))
_ROUNDS = _Kind("a list of times above 0 s", lambda value: _are_rounds(value) and len(value) > 0)
_ROUNDS_OR_NONE = _Kind("a list, maybe empty, of times above 0 s", _are_rounds)
_PAIRS_OR_NONE = _Kind("a list, maybe empty, of pairs of times above 0 s", _are_pairs)

_EXTRA_INFO = {
    "size": _TEXT,
    "workload": _TEXT,
    "workload_title": _TEXT,
    "contender": _TEXT,
    "precision": _TEXT,
    "weights": _TEXT,
    "device": _DEVICE,
    "prompts": _COUNT,
    "prompt_len": _COUNT,
    "num_return_sequences": _COUNT,
    "max_new_tokens": _COUNT,
    "temperature": _NOT_NEGATIVE,
    "top_k": _NATURAL,
    "ttft_rounds_s": _ROUNDS,
    "ttft_s": _POSITIVE,
    "time_per_output_token_s": _NUMBER_OR_NULL,  # null where one new token was asked for: there is no second
    "tokens_per_s": _POSITIVE,
    "load_s": _NOT_NEGATIVE,
    "peak_memory_bytes": _NATURAL_OR_NULL,
    "alone_rounds_s": _ROUNDS_OR_NONE,
}

# What only some contenders have, and no run of before they were introduced.
_OPTIONAL_INFO = {
    "ceiling_kind": _Kind(" or ".join(map(repr, BOUNDS)), lambda value: value in tuple(BOUNDS)),
    "early_tokens": _COUNT,
    "early_time_per_output_token_s": _NUMBER,
}
_EARLY = ("early_tokens", "early_rounds_s", "early_time_per_output_token_s")  # all of them, or none
_OPTIONAL_ROUNDS = (
    *("ceiling_rounds_s", "ceiling_ttft_rounds_s", "early_rounds_s"),
    *(f"{bound}_rounds_s" for bound in BOUNDS),
)
_PASSES = ("own_passes_s", "exchanged_passes_s")

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
