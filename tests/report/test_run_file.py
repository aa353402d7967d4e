"""What a saved run may hold, and what is refused."""

import json

import pandas as pd
import pytest
from report_runs import CEILING, STEP_COUNTS, benchmark, machine, pair, run, save

from gptloop.report.errors import ReportError
from gptloop.report.machine import machine_of
from gptloop.report.runs import read_runs

EARLY = {"early_tokens": 6, "early_rounds_s": [0.2] * 3, "early_time_per_output_token_s": 0.02}


def without(record: dict, *path: str) -> dict:
    """A run less the field at a path."""
    copy = json.loads(json.dumps(record))
    inner = copy
    for key in path[:-1]:
        inner = inner[int(key)] if key.isdigit() else inner[key]
    del inner[path[-1]]
    return copy


def test_a_truncated_run_is_refused_by_name(tmp_path):
    path = save(tmp_path, run(*pair()))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ReportError, match=r"0001_run\.json: not valid JSON"):
        read_runs(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"[1" + b"0" * 5000 + b"]"])
def test_bytes_that_are_not_json_are_refused(tmp_path, content):
    save(tmp_path, run(*pair())).write_bytes(content)
    with pytest.raises(ReportError, match=r"0001_run\.json"):
        read_runs(tmp_path)


def test_a_run_without_benchmarks_is_refused(tmp_path):
    save(tmp_path, run())
    with pytest.raises(ReportError, match=r"0001_run\.json: holds no benchmarks"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    "path",
    [
        ("machine_info",),
        ("machine_info", "gptloop"),
        ("machine_info", "gptloop", "threads"),
        ("machine_info", "gptloop", "versions"),
        ("commit_info",),
        ("commit_info", "id"),
        ("datetime",),
        ("benchmarks",),
        ("benchmarks", "0", "group"),
        ("benchmarks", "0", "stats"),
        ("benchmarks", "0", "extra_info"),
        ("benchmarks", "0", "extra_info", "schema"),
        ("benchmarks", "0", "extra_info", "parity", "excused_rows"),
        *(("benchmarks", "0", "extra_info", name) for name in benchmark()["extra_info"]),
    ],
)
def test_a_run_that_lacks_a_field_is_refused_with_its_name(tmp_path, path):
    save(tmp_path, without(run(*pair()), *path))
    with pytest.raises(ReportError, match=rf"0001_run\.json.* has no '{path[-1]}': not a run of gptloop's suite"):
        read_runs(tmp_path)


def test_a_run_without_raw_rounds_says_how_to_keep_them(tmp_path):
    save(tmp_path, without(run(*pair()), "benchmarks", "0", "stats", "data"))
    with pytest.raises(ReportError, match=r"has no 'data'.*--benchmark-save-data"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt_len", 0),
        ("prompt_len", True),
        ("prompt_len", 3.5),
        ("prompt_len", 10**30),
        ("size", ""),
        ("size", "two\nlines"),
        ("size", None),
        ("device", "tpu"),
        ("ttft_s", 0),
        ("ttft_s", float("nan")),
        ("ttft_s", 1e300),
        ("ttft_s", 1e-300),
        ("ttft_s", 10**400),
        ("ttft_rounds_s", [1.0, 5e-324]),
        ("alone_rounds_s", [1e300]),
        ("time_per_output_token_s", -1e300),
        ("tokens_per_s", 1e-300),
        ("tokens_per_s", 1e300),
        ("temperature", 1e300),
        ("load_s", 1e300),
        ("peak_memory_bytes", 10**18),
        ("weights", "x" * 1001),
        ("ttft_rounds_s", []),
        ("tokens_per_s", float("inf")),
        ("temperature", -1),
        ("load_s", "fast"),
        ("alone_rounds_s", [0.1, -0.1]),
        ("alone_rounds_s", None),
        ("peak_memory_bytes", 1.5),
        ("parity", []),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused_with_its_value(tmp_path, field, value):
    save(tmp_path, run(benchmark(group="a case", **{field: value})))
    with pytest.raises(ReportError, match=rf"0001_run\.json: benchmark 1: extra_info has '{field}' = .*, expected "):
        read_runs(tmp_path)


@pytest.mark.parametrize("rounds", [[], [1.0, 0.0], [1.0, None], "1.0", [1e300], [5e-324], [1e-300, 1.0], [True]])
def test_rounds_are_times_above_zero(tmp_path, rounds):
    entry = benchmark()
    entry["stats"]["data"] = rounds
    save(tmp_path, run(entry))
    with pytest.raises(ReportError, match=r"stats has 'data' = .* expected a list of times"):
        read_runs(tmp_path)


@pytest.mark.parametrize("at", ["yesterday", "0001-01-01T00:00:00+14:00", "1677-01-01", "9999-12-31T23:59:59"])
def test_the_time_of_a_run_is_iso_8601(tmp_path, at):
    save(tmp_path, run(*pair(), at=at))
    with pytest.raises(ReportError, match=r"'datetime' = .*, expected an ISO 8601 time"):
        read_runs(tmp_path)


def test_a_run_of_another_schema_is_told_and_left_out_but_refused_where_one_judges(tmp_path):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    save(tmp_path, run(benchmark(schema=2)), "m/0002_run.json")
    told: list[str] = []
    frame = read_runs(tmp_path, told.append)
    assert set(frame["run"]) == {"m/0001_run.json"}
    assert len(told) == 1
    assert "0002_run.json: benchmark 1: extra_info has schema 2, this report reads schema 1: left out" in told[0]
    with pytest.raises(ReportError, match=r"has schema 2, this report reads schema 1"):
        read_runs(tmp_path, of_one_schema=True)


def test_a_contender_stands_in_a_case_once(tmp_path):
    save(tmp_path, run(benchmark("onnx"), benchmark("onnx")))
    with pytest.raises(ReportError, match=r"case 'gpt2 8x1 fp32' holds contender 'onnx' twice"):
        read_runs(tmp_path)


def test_contenders_of_a_case_do_the_same_work(tmp_path):
    save(tmp_path, run(benchmark("torch"), benchmark("onnx", prompt_len=37)))
    with pytest.raises(ReportError, match=r"case 'gpt2 8x1 fp32' disagree: prompt_len 36 and 37"):
        read_runs(tmp_path)


def test_a_case_runs_on_the_device_of_its_run(tmp_path):
    save(tmp_path, run(benchmark(device="cuda")))
    with pytest.raises(ReportError, match=r"ran on cuda, the run on cpu"):
        read_runs(tmp_path)


def test_runs_from_before_the_ceiling_lack_it(tmp_path):
    save(tmp_path, run(benchmark("torch"), benchmark("onnx", **CEILING)))
    old, new = read_runs(tmp_path).to_dict("records")
    assert pd.isna(old["ceiling_kind"])
    assert pd.isna(old["early_tokens"])
    assert old["ceiling_rounds_s"] == []
    assert (new["ceiling_kind"], new["ceiling_rounds_s"]) == ("all_products", [1.0, 1.0, 1.0])


def test_runs_whose_ceiling_knew_no_attention_are_read(tmp_path):
    save(tmp_path, run(benchmark("onnx", **(CEILING | {"ceiling_kind": "products", "all_products_rounds_s": []}))))
    (row,) = read_runs(tmp_path).to_dict("records")
    assert (row["ceiling_kind"], row["all_products_rounds_s"]) == ("products", [])


def test_what_a_step_does_is_read_where_it_was_traced(tmp_path):
    save(tmp_path, run(benchmark("torch"), benchmark("onnx", step_counts=STEP_COUNTS)))
    torch, onnx = read_runs(tmp_path)["step_counts"]
    assert torch is None
    assert (onnx["kernels"], onnx["host_to_device"]) == (123.0, 1.03)
    assert "memsets" not in onnx, "which nobody shows"


@pytest.mark.parametrize(("wrong", "words"), [({}, "no 'kernels'"), (STEP_COUNTS | {"kernels": "many"}, "a number")])
def test_counts_of_a_step_that_are_none_are_refused(tmp_path, wrong, words):
    save(tmp_path, run(benchmark("onnx", step_counts=wrong)))
    with pytest.raises(ReportError, match=f"step_counts has .*{words}"):
        read_runs(tmp_path)


@pytest.mark.parametrize("missing", EARLY)
def test_the_first_tokens_are_told_of_whole_or_not_at_all(tmp_path, missing):
    save(tmp_path, run(benchmark("onnx", **{name: value for name, value in EARLY.items() if name != missing})))
    with pytest.raises(ReportError, match=f"without the others of .*{missing}"):
        read_runs(tmp_path)


@pytest.mark.parametrize("page_bytes", [0, 1 << 21, None])
def test_huge_pages_are_the_runs_facts_and_not_the_machines(tmp_path, page_bytes):
    facts = {} if page_bytes is None else {"huge_page_bytes": page_bytes}
    save(tmp_path, run(*pair(), machine=machine(**facts)))
    frame = read_runs(tmp_path)
    assert set(frame["fingerprint"]) == {machine_of(machine()).slug}
    assert (None if frame["huge_page_bytes"].isna().all() else frame["huge_page_bytes"].iloc[0]) == page_bytes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ceiling_kind", "sky"),
        ("ceiling_rounds_s", [0]),
        ("products_rounds_s", None),
        ("early_tokens", 0),
        ("early_time_per_output_token_s", "soon"),
    ],
)
def test_an_optional_field_of_the_wrong_kind_is_refused(tmp_path, field, value):
    save(tmp_path, run(benchmark("onnx", **(CEILING | EARLY | {field: value}))))
    with pytest.raises(ReportError, match=f"has '{field}' = .*, expected "):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"ceiling_rounds_s": [1.0, 1.0, 1.0]}, "'ceiling_rounds_s' without 'ceiling_kind'"),
        ({"time_per_output_token_s": None}, "no 'time_per_output_token_s' of 36 new tokens"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(tmp_path, facts, words):
    save(tmp_path, run(benchmark("onnx", **facts)))
    with pytest.raises(ReportError, match=words):
        read_runs(tmp_path)
