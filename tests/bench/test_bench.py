"""`gptloop bench`: numbers that fit each other, within the budget, and one line for what cannot be measured."""

import json
import subprocess
import sys

import pytest
from command_line import error_of, text_of

from gptloop import export
from gptloop.bench import measure, table
from gptloop.bench.measure import bench
from gptloop.bench.result import Timing
from gptloop.bench.table import render
from gptloop.bench.workload import Workload, workloads
from gptloop.cli import main

SIZES = ("prompts", "num_return_sequences", "prompt_len", "max_new_tokens")
SPREADS = ("time_s", "ttft_s", "time_per_output_token_s", "tokens_per_s")


@pytest.fixture
def run_bench(capsys):
    """Runs `gptloop bench`: its output, its standard error and its exit code."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["bench", *map(str, arguments)])
        return (*capsys.readouterr(), code)

    return run


def test_the_command_has_the_budget_of_the_call(monkeypatch):
    given = {}
    monkeypatch.setattr(measure, "bench", lambda _, **options: given.update(options))
    monkeypatch.setattr(table, "render", lambda _: "")
    assert main(["bench", "model.onnx"]) == 0
    assert given["budget_s"] == measure.BUDGET_S


def test_the_last_line_is_json_of_numbers_that_fit_each_other(tiny, run_bench):
    out = text_of(run_bench(tiny.path, "--threads", 1, "--json"))
    table, _, last = out.rstrip("\n").rpartition("\n")
    found = json.loads(last)
    assert list(found) == [
        *("file", "source", "weights", "precision", "flavor", "device", "threads", "onnxruntime"),
        *("load_s", "first_ttft_s", "peak_memory_bytes"),
        *("bandwidth_bytes_per_s", "step_weight_bytes", "bandwidth_share"),
        *("rounds", "workloads", "left_out", "budget_s", "elapsed_s"),
    ]
    facts = [found[name] for name in ("file", "precision", "flavor", "device")]
    assert facts == ["tiny.onnx", "fp32", "standard", "cpu"]
    assert (found["threads"], found["left_out"], found["budget_s"]) == (1, [], 60)
    assert found["rounds"] == 3
    sizes = [tuple(workload[name] for name in SIZES) for workload in found["workloads"]]
    assert sizes == [(1, 1, 32, 32), (8, 1, 32, 32), (1, 64, 32, 32)]
    for workload in found["workloads"]:
        assert list(workload) == [*SIZES, *SPREADS]
        assert all(list(workload[name]) == ["median", "min", "max"] for name in SPREADS)
        assert all(workload[name]["min"] <= workload[name]["median"] <= workload[name]["max"] for name in SPREADS)
        time_s, ttft_s, token_s, rate = (workload[name]["median"] for name in SPREADS)
        assert 0 < ttft_s < time_s
        assert ttft_s + 31 * token_s == pytest.approx(time_s)
        assert rate * time_s == pytest.approx(workload["prompts"] * workload["num_return_sequences"] * 32)
    one_row = found["workloads"][0]["time_per_output_token_s"]["median"]
    share = found["step_weight_bytes"] / one_row / found["bandwidth_bytes_per_s"]["median"]
    assert found["bandwidth_share"] == pytest.approx(share)
    for words in ("64 candidates, 32 + 32 tokens", "on cpu, 1 thread\n", "read by 1 thread\n", "\n3 rounds, "):
        assert words in table


def test_medians_are_of_the_quantities_by_definition():
    """By hand: (total - TTFT) / (N - 1), and the new tokens of all rows over the whole call's time."""
    timing = Timing(Workload(2, 3, 5, 11), [3.0, 2.0, 7.0], [0.5, 1.0, 0.75])
    assert timing.time_s == (3, 2, 7)
    assert timing.ttft_s == (0.75, 0.5, 1)
    assert timing.time_per_output_token_s == (pytest.approx(0.225), 0.1, 0.625)
    assert timing.tokens_per_s == (2 * 3 * 11 / 3, 2 * 3 * 11 / 7, 2 * 3 * 11 / 2)


def test_one_new_token_has_no_time_per_output_token(tiny):
    result = bench(tiny.path, max_new_tokens=1, prompts=2)
    (workload,) = result.to_dict()["workloads"]
    assert workload["time_per_output_token_s"] is None
    assert result.bandwidth_share is None
    assert "2 prompts, 32 + 1 tokens" in render(result)


def test_a_round_is_timed_though_reading_memory_took_all_that_was_left(tiny, monkeypatch):
    class Slow(measure.MemoryRead):
        def __init__(self, threads):
            super().__init__(threads)
            monkeypatch.setattr(measure.Budget, "left_s", -1.0)

    monkeypatch.setattr(measure, "MemoryRead", Slow)
    found = bench(tiny.path, threads=1, budget_s=600, max_new_tokens=2)
    assert [len(timing.rounds_s) for timing in found.timings] == [1] * len(found.timings)


def test_a_size_that_there_is_not_is_refused_before_the_file_is_opened():
    with pytest.raises(TypeError, match=r"bench\(\) got an unexpected keyword argument 'prompt'"):
        bench("no-such.onnx", prompt=3)


def test_a_model_with_room_for_it_gets_a_long_prompt():
    assert [w.title for w in workloads(1024)] == [
        "one row, 36 + 36 tokens",
        "8 prompts, 36 + 36 tokens",
        "one row, 512 + 36 tokens",
        "64 candidates, 36 + 36 tokens",
    ]
    assert Workload(1, 1, 512, 37) not in workloads(548, max_new_tokens=37)
    assert Workload(1, 1, 512, 36) in workloads(548)
    assert workloads(1024, num_return_sequences=4, prompt_len=9) == [Workload(1, 4, 9, 36)]
    assert workloads(1024, prompts=3)[0].title == "3 prompts, 36 + 36 tokens"
    assert Workload(2, 3, 4, 5).title == "3 candidates of 2 prompts, 4 + 5 tokens"


def test_measuring_needs_neither_torch_nor_transformers(tiny):
    blocked = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['torch', 'transformers', 'onnxscript', 'onnx_ir', 'pandas']);"
        "runpy.run_module('gptloop', run_name='__main__')"
    )
    command = [sys.executable, "-c", blocked, "bench", tiny.path, "--prompts", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "one row, 32 + 32 tokens" in done.stdout


# Errors


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--budget", 2], "budget_s must be from 3 to"),
        (["--budget", "nan"], "budget_s must be from 3 to"),
        (["--prompt-len", 0], "prompt_len must be at least 1, got 0"),
        (["--prompt-len", 60], "prompt_len 60 + max_new_tokens 32 = 92 is above the model's n_positions 64"),
        (["--max-new-tokens", 64], "n_positions 64"),
        (["--prompts", 10**9], "prompts must be at most 8192"),
        (["-n", 0], "num_return_sequences must be at least 1, got 0"),
        (["--threads", 0], "threads must be at least 1, got 0"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_that_names_the_bound(tiny, run_bench, arguments, named):
    assert named in error_of(run_bench(tiny.path, *arguments))


def test_what_is_no_model_is_one_line(run_bench, tmp_path):
    path = tmp_path / "model.onnx"
    assert "no such model file" in error_of(run_bench(path))
    path.write_bytes(b"\x00\x01")
    assert str(path) in error_of(run_bench(path))


def test_a_fixed_number_of_new_tokens_is_refused(tiny, run_bench, tmp_path):
    path = export(tiny.model, tmp_path / "model.onnx", flavor="unrolled", max_new_tokens=2)
    assert f"flavor 'unrolled' has a fixed number of new tokens, and so no TTFT: {path}" in error_of(run_bench(path))
