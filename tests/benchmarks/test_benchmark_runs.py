"""How the suite measures and saves: interleaved, paired, and readable by pytest-benchmark's own means."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import conftest as suite
from benchmarks import machine
from benchmarks.machine.cores import PASSES, core_pass
from benchmarks.timing.clocks import interleave


@pytest.mark.parametrize(("rounds", "order"), [(1, "ab"), (2, "abba"), (4, "abbaabba")])
def test_contenders_are_timed_in_abba_order(rounds, order):
    calls = []
    times, _ = interleave({name: lambda name=name: calls.append(name) for name in "ab"}, rounds, lambda: None)
    assert "".join(calls) == order
    assert {name: len(of_arm) for name, of_arm in times.items()} == {"a": rounds, "b": rounds}


def test_round_i_of_a_contender_is_its_time_in_round_i(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("gptloop.bench.clock.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    busy = {"a": 3, "b": 7}
    times, beside = interleave(
        {name: lambda n=n: [next(clock) for _ in range(n)] for name, n in busy.items()}, 2, lambda: next(clock)
    )
    assert times == {"a": [4, 4], "b": [8, 8]}
    # before a, after it and before b, after it; then the other way round
    assert beside == {"a": [(0, 6), (27, 33)], "b": [(6, 16), (17, 27)]}


def test_every_call_begins_when_all_threads_rest_and_what_is_beside_too():
    done = []
    interleave({"a": lambda: done.append("call")}, 1, lambda: done.append("beside"), lambda: done.append("rest"))
    assert done == ["rest", "beside", "rest", "call", "rest", "beside"]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_where_the_cores_are_is_measured_with_as_many_threads_as_torch_has(threads, monkeypatch):
    read, add, before = [], torch.add, torch.get_num_threads()

    def spy(x, y, *, out):
        read.append((tuple(x.shape[:2]), x.is_contiguous(), len(out)))
        return add(x, y, out=out)

    monkeypatch.setattr("benchmarks.machine.cores.torch.add", spy)
    torch.set_num_threads(threads)
    try:
        found = core_pass()
    finally:
        torch.set_num_threads(before)
    assert min(found) > 0
    # One entry for each thread; first read as written, then each entry's parts from another's.
    assert (
        read == [((threads, threads), True, threads)] * PASSES + [((threads, threads), threads == 1, threads)] * PASSES
    )


def test_the_facts_say_which_huge_pages_there_are(monkeypatch):
    monkeypatch.setattr("benchmarks.machine.description.huge_page_bytes", lambda: 12345)
    assert machine.facts()["huge_page_bytes"] == 12345


ROOT = Path(__file__).parents[2]

SUITE = """
import pytest
from benchmarks.test_speed import RecordedClock

clock = RecordedClock()
ROUNDS = {"torch": [2.0, 2.5, 3.0], "onnx": [1.0, 1.25, 1.5]}

@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("contender", ROUNDS)
def test_generate(contender, benchmark):
    benchmark.group = "gpt2 8x1"
    clock.replay(benchmark, ROUNDS[contender])
"""


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory):
    """A run in which two contenders hand their paired rounds to pytest-benchmark."""
    tmp_path = tmp_path_factory.mktemp("suite")
    (tmp_path / "test_suite.py").write_text(SUITE)
    options = ["--benchmark-autosave", "--benchmark-save-data", f"--benchmark-storage=file://{tmp_path}/saved"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # where `benchmarks` is: it is not installed
    done = subprocess.run(
        [*command, "test_suite.py"], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    (path,) = (tmp_path / "saved").glob("*/0001_*.json")
    return path


def test_the_paired_rounds_are_in_the_saved_file(saved_run):
    benchmarks = json.loads(saved_run.read_text())["benchmarks"]
    assert {one["param"]: one["stats"]["data"] for one in benchmarks} == {
        "torch": [2.0, 2.5, 3.0],
        "onnx": [1.0, 1.25, 1.5],
    }
    assert {one["group"] for one in benchmarks} == {"gpt2 8x1"}


def test_pytest_benchmark_compare_reads_the_saved_file(saved_run, tmp_path):
    table = tmp_path / "compared.csv"
    command = ["compare", "--sort=name", "--columns=min,median,max", f"--csv={table}", str(saved_run)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", *command], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "test_generate[onnx]" in done.stdout
    header, *rows = table.read_text().split()
    medians = {
        row.split(",")[0].split("::")[-1]: float(row.split(",")[header.split(",").index("median")]) for row in rows
    }
    assert medians == {"test_generate[torch]": 2.5, "test_generate[onnx]": 1.25}


def pytest_benchmarks(*options: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", ROOT / "benchmarks", "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, check=False, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("elsewhere", "words"),
    [(False, "Benchmark machine_info is different"), (True, "the saved run is from another machine")],
)
def test_a_run_is_compared_with_that_of_another_machine_and_a_warning_is_shown(saved_run, elsewhere, words):
    """Which pytest-benchmark cannot word where the saved runs are not below the working directory."""
    storage = saved_run.parents[1]
    compare = ("-k", "no-such", "--benchmark-compare", f"--benchmark-storage=file://{storage}")
    done = pytest_benchmarks(*compare, cwd=ROOT if elsewhere else storage.parent)
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert words in done.stdout + done.stderr
    assert "Comparing against benchmarks from" in done.stdout + done.stderr


def test_a_contender_that_there_is_not_is_named():
    done = pytest_benchmarks("--contenders", "onnx,onxx")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "must be of torch, " in done.stderr
    assert "got 'onxx'" in done.stderr


def test_a_run_on_a_cpu_that_nobody_knows_is_compared_all_the_same(saved_run, tmp_path):
    unknown = "import cpuinfo\n\ndef get_cpu_info():\n    raise Exception('py-cpuinfo knows no such CPU')\n"
    (tmp_path / "unknown_cpu.py").write_text(f"{unknown}\ncpuinfo.get_cpu_info = get_cpu_info\n")
    storage = f"--benchmark-storage=file://{saved_run.parents[1]}"
    options = ("-p", "unknown_cpu", "-k", "no-such", "--benchmark-compare", storage)
    done = pytest_benchmarks(*options, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert "INTERNALERROR" not in done.stdout + done.stderr
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert "Comparing against benchmarks from" in done.stdout + done.stderr


def test_a_suite_in_which_pytest_benchmark_is_off_says_that_nothing_is_measured():
    done = pytest_benchmarks("-m", "smoke", PYTEST_XDIST_WORKER="gw0")  # as in a process of `pytest -n`
    assert done.returncode == 0
    assert "gptloop: nothing is measured: pytest-benchmark is off" in done.stdout
    assert "6 skipped" in done.stdout


def test_in_the_tests_a_warning_is_an_error():
    with pytest.raises(UserWarning, match="look out"):
        warnings.warn("look out", stacklevel=1)


@pytest.mark.parametrize(
    ("start", "end", "dirty"),
    [(("a", False), ("a", False), False), (("a", False), ("b", False), True), (("a", False), ("a", True), True)],
)
def test_a_run_names_the_commit_it_began_with_and_is_dirty_if_the_tree_changed_since(monkeypatch, start, end, dirty):
    told = iter({"id": id_, "dirty": of_tree} for id_, of_tree in (start, end))
    monkeypatch.setattr("benchmarks.conftest.saved_commit_info", lambda _: next(told))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    config = SimpleNamespace(getoption=lambda _: None, stash={})
    suite.pytest_configure(config)
    assert suite.pytest_benchmark_generate_commit_info(config) == {"id": "a", "dirty": dirty}
