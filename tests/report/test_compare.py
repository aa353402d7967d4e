"""Ratios: formed from paired rounds of one run, or not at all."""

import math

import pandas as pd
import pytest
from report_runs import CEILING, benchmark, compared, machine, pair, run, save

from gptloop.report.compare import compare_cases, paired_ratios
from gptloop.report.errors import ReportError
from gptloop.report.runs import newest_cases, read_runs


def row(frame: pd.DataFrame, contender: str) -> pd.Series:
    return frame[frame["contender"] == contender].iloc[0]


def test_a_speedup_is_the_median_of_paired_ratios(tmp_path):
    # Ratios 2, 3, 4, 1, 8 in order; the ratio of the medians would be 4 / 2 = 2.
    onnx = row(
        compared(
            tmp_path,
            benchmark("torch", (2.0, 6.0, 4.0, 3.0, 16.0)),
            benchmark("onnx", (1.0, 2.0, 1.0, 3.0, 2.0)),
        ),
        "onnx",
    )
    assert onnx["speedup"] == 3.0
    assert (onnx["speedup_min"], onnx["speedup_q1"], onnx["speedup_q3"], onnx["speedup_max"]) == (1.0, 2.0, 4.0, 8.0)
    assert (onnx["median_s"], onnx["min_s"], onnx["max_s"]) == (2.0, 1.0, 3.0)
    assert onnx["baseline_median_s"] == 4.0


def test_round_i_pairs_with_round_i():
    assert paired_ratios([1.0, 2.0, 3.0], [2.0, 2.0, 1.0]) == [0.5, 1.0, 3.0]


def test_unequal_counts_of_rounds_are_refused(tmp_path):
    with pytest.raises(
        ReportError, match=r"0001_run\.json: case 'gpt2 8x1 fp32', contender 'onnx': 2 rounds .* with 3"
    ):
        compared(tmp_path, benchmark("torch", (1.0, 1.0, 1.0)), benchmark("onnx", (1.0, 1.0)))


def test_the_baseline_has_no_speedup_over_itself(tmp_path):
    assert math.isnan(row(compared(tmp_path, *pair()), "torch")["speedup"])


def test_a_case_without_the_baseline_has_no_speedup(tmp_path):
    onnx = row(compared(tmp_path, benchmark("onnx"), benchmark("torch", workload="1x1")), "onnx")
    assert math.isnan(onnx["speedup"])
    assert math.isnan(onnx["baseline_median_s"])
    assert onnx["median_s"] == 1.0


def test_pairs_never_mix_runs(tmp_path):
    save(tmp_path, run(benchmark("torch", (9.0, 9.0, 9.0)), at="2026-11-22T00:00:00+00:00"), "m/0001_run.json")
    save(tmp_path, run(benchmark("onnx"), at="2026-11-23T00:00:00+00:00"), "m/0002_run.json")
    every_run = compare_cases(read_runs(tmp_path))
    assert len(every_run) == 2
    assert every_run["speedup"].isna().all()


def test_pairs_never_mix_machines(tmp_path):
    save(tmp_path, run(*pair()), "m/0001_run.json")
    save(tmp_path, run(benchmark("onnx"), machine=machine(threads=8)), "m/0002_run.json")
    frame = compare_cases(newest_cases(read_runs(tmp_path)))
    speedups = {row["machine"].threads: row["speedup"] for _, row in frame[frame["contender"] == "onnx"].iterrows()}
    assert speedups[2] == pytest.approx(2.0)
    assert math.isnan(speedups[8])


def test_an_int8_contender_is_compared_with_the_fp32_baseline_of_its_case(tmp_path):
    group = "gpt2 8x1 int8"
    frame = compared(
        tmp_path,
        benchmark("torch", (3.0, 3.0), group=group),
        benchmark("onnx", (1.0, 1.0), group=group, precision="int8"),
    )
    onnx = row(frame, "onnx")
    assert (onnx["precision"], onnx["baseline_precision"], onnx["speedup"]) == ("int8", "fp32", 3.0)


def test_the_control_is_alone_over_interleaved(tmp_path):
    frame = compared(
        tmp_path,
        benchmark("torch", (2.0, 2.0, 2.0), alone_rounds_s=[1.0, 1.5, 9.0]),
        benchmark("onnx", (1.0, 1.0, 1.0)),
    )
    assert row(frame, "torch")["alone_median_s"] == 1.5
    assert row(frame, "torch")["alone_over_interleaved"] == 0.75
    assert math.isnan(row(frame, "onnx")["alone_over_interleaved"])


def test_cases_stand_in_the_order_of_precision_size_and_rows(tmp_path):
    cases = [("gpt2-xl", "1x1", "fp32"), ("gpt2", "8x1", "fp32"), ("gpt2", "1x1", "int8"), ("gpt2", "1x1", "fp32")]
    cases += [("own", "1x1", "fp32"), ("distilgpt2", "1x64", "fp32"), ("distilgpt2", "64x1", "fp32")]
    frame = compared(tmp_path, *(benchmark("onnx", (1.0,), *case) for case in cases))
    assert list(zip(frame["size"], frame["workload"], frame["precision"], strict=True)) == [
        ("distilgpt2", "64x1", "fp32"),
        ("distilgpt2", "1x64", "fp32"),
        ("gpt2", "1x1", "fp32"),
        ("gpt2", "8x1", "fp32"),
        ("gpt2-xl", "1x1", "fp32"),
        ("own", "1x1", "fp32"),
        ("gpt2", "1x1", "int8"),
    ]


def test_the_machine_with_the_newest_run_stands_first(tmp_path):
    for number, day in enumerate((21, 23, 22), 1):
        at = f"2026-11-{day}T00:00:00+00:00"
        save(tmp_path, run(*pair(), machine=machine(threads=number), at=at), f"m/000{number}_run.json")
    frame = compare_cases(read_runs(tmp_path))
    assert [one.threads for one in frame["machine"]] == [2, 2, 3, 3, 1, 1]


def test_the_baseline_stands_before_its_contenders(tmp_path):
    frame = compared(tmp_path, *(benchmark(name) for name in ("zeta", "onnx", "hf_generate", "torch_tiled", "torch")))
    assert frame["contender"].tolist() == ["torch", "torch_tiled", "hf_generate", "onnx", "zeta"]


def test_the_ceiling_is_paired_with_the_contenders_own_rounds(tmp_path):
    ceiling = CEILING | {"ceiling_rounds_s": [1.0, 0.5, 2.0]}
    frame = compared(tmp_path, *pair()[:1], benchmark("onnx", (1.0, 1.1, 1.2), **ceiling))
    torch, onnx = frame.to_dict("records")
    # 1.0 / 1.0, 1.1 / 0.5, 1.2 / 2.0
    assert [onnx[name] for name in ("over_ceiling_min", "over_ceiling", "over_ceiling_max")] == [0.6, 1.0, 2.2]
    assert [onnx[f"{bound}_s"] for bound in ("products", "all_products", "bandwidth", "ceiling_ttft")] == [
        0.8,
        1.0,
        0.4,
        0.1,
    ]
    assert onnx["ceiling_time_per_output_token_s"] == pytest.approx(0.9 / 35)
    assert all(pd.isna(torch[name]) for name in ("over_ceiling", "products_s", "ceiling_time_per_output_token_s"))


def test_rounds_that_cannot_be_paired_with_the_ceilings_are_refused(tmp_path):
    with pytest.raises(ReportError, match="'onnx': its 2 rounds cannot be paired with those of its ceiling"):
        compared(tmp_path, benchmark("onnx", (1.0, 1.1), **CEILING))


def test_growth_is_time_per_output_token_over_that_of_the_first_tokens(tmp_path):
    early = {"early_tokens": 6, "early_rounds_s": [0.2, 0.15, 0.3], "early_time_per_output_token_s": 0.02}
    onnx = benchmark("onnx", (0.8, 0.8, 0.8), ttft_s=0.1, max_new_tokens=36, **early)
    torch, onnx = compared(tmp_path, *pair()[:1], onnx).to_dict("records")
    # 0.7 / 35 over 0.1 / 5, 0.05 / 5 and 0.2 / 5
    assert [onnx[name] for name in ("growth_min", "growth", "growth_max")] == pytest.approx([0.5, 1.0, 2.0])
    assert all(pd.isna(torch[name]) for name in ("growth_min", "growth", "growth_max"))


@pytest.mark.parametrize("changes", [{"max_new_tokens": 1}, {"early_tokens": 1}, {"early_rounds_s": [0.1, 0.2, 0.2]}])
def test_without_time_beside_the_first_tokens_there_is_no_growth(tmp_path, changes):
    early = {"early_tokens": 6, "early_rounds_s": [0.2] * 3, "early_time_per_output_token_s": 0.02} | changes
    (row,) = compared(tmp_path, benchmark("onnx", (1.0, 1.0, 1.0), ttft_s=0.1, **early)).to_dict("records")
    assert all(pd.isna(row[name]) for name in ("growth_min", "growth", "growth_max"))


def test_rounds_that_cannot_be_paired_with_the_first_tokens_are_refused(tmp_path):
    early = {"early_tokens": 6, "early_rounds_s": [0.2], "early_time_per_output_token_s": 0.02}
    with pytest.raises(ReportError, match="'onnx': its 2 rounds cannot be paired with those of its first tokens"):
        compared(tmp_path, benchmark("onnx", (1.0, 1.1), **early))
