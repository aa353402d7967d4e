"""report.json: the compared rows, for machines."""

import json

import pytest
from report_runs import benchmark, gpu_machine, pair, run, save

from gptloop.report.compare import compare_cases
from gptloop.report.files import report_json
from gptloop.report.runs import newest_cases, read_runs


@pytest.fixture
def content(tmp_path):
    one_token = benchmark("onnx", size="gpt2-xl", max_new_tokens=1, time_per_output_token_s=None)
    save(tmp_path, run(*pair(), one_token), "m/0001_run.json")
    save(tmp_path, run(*pair(device="cuda"), machine=gpu_machine()), "m/0002_run.json")
    return json.loads(report_json(compare_cases(newest_cases(read_runs(tmp_path)))))


def test_it_is_marked_so_that_the_next_report_passes_over_it(content, tmp_path):
    assert content["gptloop_kind"] == "report"
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert len(read_runs(tmp_path)) == len(content["rows"])


def test_rows_hold_ratios_raw_rounds_and_the_run(content):
    row = next(row for row in content["rows"] if row["contender"] == "onnx" and row["size"] == "gpt2")
    assert (row["speedup"], row["speedup_min"], row["speedup_max"]) == (2.0, 2.0, 2.0)
    assert row["rounds_s"] == [1.0, 1.1, 1.2]
    assert row["datetime"] == "2026-11-22T14:18:07.623274+00:00"
    assert row["commit"].startswith("0123456789")


def test_what_is_unknown_is_null(content):
    alone = next(row for row in content["rows"] if row["size"] == "gpt2-xl")
    for name in ("speedup", "baseline_median_s", "time_per_output_token_s", "alone_median_s"):
        assert alone[name] is None, name


def test_every_row_names_a_machine_that_is_described(content):
    assert {row["machine"] for row in content["rows"]} == set(content["machines"])
    gpus = {facts["gpu"] for facts in content["machines"].values()}
    assert gpus == {None, "NVIDIA H200"}
    assert all(facts["versions"]["torch"] == "2.13.0" for facts in content["machines"].values())
