"""`gptloop bench`: numbers that fit each other, within the budget, and one line for what cannot be measured."""

import contextlib
import json
import re
import subprocess
import sys
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from command_line import error_of, text_of
from hypothesis import given
from hypothesis import strategies as st

from gptloop import export, names
from gptloop.bench import measure, memory
from gptloop.bench.measure import bench
from gptloop.bench.result import Timing
from gptloop.bench.table import render
from gptloop.bench.workload import Workload, workloads
from gptloop.cli import main
from gptloop.model_file import read_model

SIZES = ("prompts", "num_return_sequences", "prompt_len", "max_new_tokens")
SPREADS = ("time_s", "ttft_s", "time_per_output_token_s", "tokens_per_s")


@pytest.fixture(autouse=True)
def small_buffer_and_few_rounds(monkeypatch):
    monkeypatch.setattr(memory, "BUFFER_BYTES", 1 << 22)
    memory.fastest_read.cache_clear()
    monkeypatch.setattr(measure, "MOST_ROUNDS", 3)
    yield
    memory.fastest_read.cache_clear()


@pytest.fixture
def run_bench(capsys):
    """Runs `gptloop bench`: its output, its standard error and its exit code."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["bench", *map(str, arguments)])
        return (*capsys.readouterr(), code)

    return run


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
    assert "64 candidates, 32 + 32 tokens" in table


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


@pytest.mark.parametrize("single_file", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_step_reads_all_weights_but_the_positions(tiny, tmp_path, precision, single_file):
    """Each product's matrix with what belongs to it, layer norms, and the table of tokens, which is the LM head."""
    path = export(tiny.model, tmp_path / "model.onnx", precision=precision, single_file=single_file)
    D, V, layers = 32, 97, 2
    matrices = layers * 12 * D * D + V * D
    found = memory.step_weight_bytes(read_model(path))
    number_bytes = {"fp32": 4, "int8": 1}[precision]
    vectors = 4 * (layers * (9 + 4) * D + 2 * D)  # biases and layer norms
    scales = 0 if precision == "fp32" else 4 * (layers * 9 * D + V)
    assert found >= matrices * number_bytes + vectors + scales
    assert found < matrices * number_bytes + vectors + scales + 64 * D * 4, "constants, but not the positions"


def test_an_embedding_that_is_not_the_head_is_not_read(tiny, open_tiny):
    untied = open_tiny(tie_word_embeddings=False)
    assert memory.step_weight_bytes(read_model(untied.path)) == memory.step_weight_bytes(read_model(tiny.path))


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


# The budget, on a clock that goes on when something is done


class Clock:
    """A machine on which a model takes so long for 32 tokens of a row."""

    def __init__(self, row_s: float):
        self.now_s, self.row_s = 0.0, row_s
        self.calls: list[tuple[int, int]] = []  # rows and new tokens

    def perf_counter(self) -> float:
        return self.now_s


class SlowLoop:
    metadata = dict.fromkeys((names.META_SOURCE, names.META_WEIGHTS, names.META_PRECISION), "slow")
    flavor, device = "standard", "cpu"
    bounds = SimpleNamespace(n_positions=64, vocab_size=97)

    def __init__(self, clock: Clock):
        self._clock = clock
        clock.now_s += 1

    def check(self, ids, **arguments):
        pass

    def generate(self, ids, *, max_new_tokens, num_return_sequences, timeout_s):
        rows = len(ids) * num_return_sequences
        seconds = self._clock.row_s * rows * max_new_tokens / 32
        self._clock.now_s += min(seconds, timeout_s or seconds)
        if timeout_s and seconds > timeout_s:
            raise TimeoutError
        self._clock.calls.append((rows, max_new_tokens))


class SlowMemory:
    def __init__(self, clock: Clock):
        self._clock, self.rounds_s = clock, []
        clock.now_s += measure.MEMORY_S

    def __call__(self):
        self._clock.now_s += 0.1
        self.rounds_s.append(1e-10)


def slow_machine(patched, row_s):
    """Makes one of this machine."""
    clock = Clock(row_s)
    for module in ("measure", "clock"):
        patched.setattr(f"gptloop.bench.{module}.time", clock)
    patched.setattr("gptloop.bench.clock.gc", Mock())  # with torch about, each collection takes 0.1 s
    patched.setattr(measure, "MOST_ROUNDS", 15)
    patched.setattr(measure, "OnnxLoop", lambda *_, **__: SlowLoop(clock))
    patched.setattr(measure, "MemoryRead", lambda _: SlowMemory(clock))
    return clock


@given(st.floats(1e-3, 30), st.floats(measure.BUDGET_MIN_S, 120))
def test_no_budget_is_exceeded(tiny, row_s, budget_s):
    with pytest.MonkeyPatch.context() as patched:
        clock = slow_machine(patched, row_s)
        too_little = budget_s < 1 + measure.MEMORY_S + 2.2 * row_s * 33 / 32
        with pytest.raises(ValueError, match="first calls take longer") if too_little else contextlib.nullcontext():
            result = bench(tiny.path, budget_s=budget_s)
        assert clock.now_s <= budget_s
    if not too_little:
        assert result.elapsed_s == clock.now_s
        assert len(result.timings) + len(result.left_out) == 3
        assert {len(timing.rounds_s) for timing in result.timings} == {len(result.timings[0].rounds_s)}


def test_what_the_budget_has_no_room_for_is_left_out(tiny, monkeypatch):
    clock = slow_machine(monkeypatch, 0.4)
    result = bench(tiny.path, budget_s=30)
    assert [timing.workload.rows for timing in result.timings] == [1, 8]
    assert [one.workload.rows for one in result.left_out] == [64]
    assert "its share of budget_s 30" in result.left_out[0].why
    assert "left out: 64 candidates, 32 + 32 tokens" in render(result)
    rounds = len(result.timings[0].rounds_s)
    assert clock.calls.count((8, 32)) == clock.calls.count((8, 1)) == 1 + rounds, "each call once a round"


def test_rounds_go_forwards_then_backwards_and_end_when_there_are_enough(tiny, monkeypatch):
    clock = slow_machine(monkeypatch, 0.001)
    result = bench(tiny.path, budget_s=60)
    assert len(result.timings[0].rounds_s) == measure.MOST_ROUNDS
    first, second = clock.calls[6:12], clock.calls[12:18]
    assert [rows for rows, _ in first] == [1, 1, 8, 8, 64, 64]
    assert [rows for rows, _ in second] == [64, 64, 8, 8, 1, 1]


def test_a_budget_without_room_for_anything_is_an_error(tiny, monkeypatch):
    slow_machine(monkeypatch, 10)
    message = "one row, 32 + 32 tokens: the first calls take longer than 3.18 s, its share of budget_s 10"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bench(tiny.path, budget_s=10)


def test_a_call_that_does_not_fit_into_memory_is_left_out_unless_it_was_asked_for(tiny, monkeypatch):
    monkeypatch.setattr("gptloop.runtime.memory.memory_bytes", lambda: 500_000)
    result = bench(tiny.path)
    assert [one.workload.rows for one in result.left_out] == [64]
    assert "takes at least" in result.left_out[0].why
    with pytest.raises(ValueError, match="num_return_sequences 64 of 1 prompts with max_new_tokens 32 takes at least"):
        bench(tiny.path, num_return_sequences=64)


# What is read of the system


def test_the_peak_of_memory_is_the_process_own():
    script = """
from gptloop.bench.memory import peak_memory_bytes
before = peak_memory_bytes()
held = bytearray(b"x") * 100_000_000
print(before, peak_memory_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, more = map(int, done.stdout.split())
    assert 10e6 < before < 1e9
    assert 99e6 < more < 110e6
    assert memory.peak_memory_bytes(10**9) is None, "of no process"


def test_all_of_the_buffer_is_read_by_as_many_threads_as_asked_for(monkeypatch):
    read = []
    real = np.array_split
    monkeypatch.setattr(np, "array_split", lambda *a: read.append(real(*a)) or read[-1])
    memory.MemoryRead(3)()
    assert all(len(parts) == 3 and sum(part.nbytes for part in parts) == 1 << 22 for parts in read)


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
    assert "is of flavor 'unrolled', which has a fixed number of new tokens" in error_of(run_bench(path))
