"""Saved runs as a frame, and which run a case comes from."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_runs import benchmark, machine, pair, run, save

import gptloop.report
from gptloop.report.runs import newest_cases, read_runs

EARLIER, LATER = "2026-11-22T14:18:07+00:00", "2026-11-23T09:00:00+00:00"


def test_a_run_gives_one_row_for_each_benchmark(tmp_path):
    save(tmp_path, run(*pair(), *pair(workload="1x1")))
    runs = read_runs(tmp_path)
    assert len(runs) == 4
    onnx = runs[(runs["contender"] == "onnx") & (runs["workload"] == "8x1")].iloc[0]
    assert onnx["rounds_s"] == [1.0, 1.1, 1.2]
    assert onnx["run"] == "Linux-CPython-3.11-64bit/0001_run.json"
    assert (onnx["size"], onnx["prompts"], onnx["commit"][:4], onnx["dirty"]) == ("gpt2", 8, "0123", False)
    assert (onnx["parity_check"], onnx["parity_rows"]) == ("tokens equal while sampling", 8)


def test_every_column_of_a_row_is_documented(tmp_path):
    save(tmp_path, run(*pair()))
    documented = set(re.findall(r"`(\w+)`", read_runs.__doc__))
    assert set(read_runs(tmp_path).columns) <= documented


def test_a_run_that_pytest_benchmark_saved_can_be_read(tmp_path):
    entry = benchmark("torch")
    info = json.dumps({"extra": entry["extra_info"], "group": entry["group"], "machine": machine()})
    (tmp_path / "conftest.py").write_text(
        f"import json\nINFO = json.loads({info!r})\n"
        "def pytest_benchmark_update_machine_info(machine_info):\n    machine_info['gptloop'] = INFO['machine']\n"
    )
    (tmp_path / "test_toy.py").write_text(
        "from conftest import INFO\ndef test_toy(benchmark):\n    benchmark.group = INFO['group']\n"
        "    benchmark.extra_info.update(INFO['extra'])\n"
        "    benchmark.pedantic(sum, args=([1, 2],), rounds=4, iterations=1)\n"
    )
    options = ["--benchmark-autosave", "--benchmark-save-data", "--benchmark-storage=file://reports"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *options]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    runs = read_runs(tmp_path / "reports")
    assert runs["group"].tolist() == [entry["group"]]
    assert len(runs["rounds_s"].iloc[0]) == 4


@pytest.mark.parametrize("names", [("0001_a", "0002_b"), ("0002_a", "0001_b")])
def test_the_newest_run_of_a_case_wins_whatever_its_number(tmp_path, names):
    save(tmp_path, run(*pair(), at=EARLIER), f"m/{names[0]}.json")
    save(tmp_path, run(*pair(), at=LATER), f"m/{names[1]}.json")
    assert newest_cases(read_runs(tmp_path))["run"].unique().tolist() == [f"m/{names[1]}.json"]


def test_times_of_runs_are_compared_across_time_zones(tmp_path):
    save(tmp_path, run(*pair(), at="2026-11-22T23:00:00-05:00"), "m/0001_later.json")
    save(tmp_path, run(*pair(), at="2026-11-23T01:00:00+00:00"), "m/0002_earlier.json")
    assert newest_cases(read_runs(tmp_path))["run"].unique().tolist() == ["m/0001_later.json"]


def test_a_case_that_the_newest_run_lacks_comes_from_the_one_before(tmp_path):
    save(tmp_path, run(*pair(), *pair(workload="1x1"), at=EARLIER), "m/0001_full.json")
    save(tmp_path, run(*pair(), at=LATER), "m/0002_smoke.json")
    newest = newest_cases(read_runs(tmp_path))
    assert dict(zip(newest["workload"], newest["run"], strict=True)) == {
        "8x1": "m/0002_smoke.json",
        "1x1": "m/0001_full.json",
    }
    assert len(newest) == 4


def test_all_contenders_of_a_case_come_from_one_run(tmp_path):
    save(tmp_path, run(*pair(), at=EARLIER), "m/0001_run.json")
    save(tmp_path, run(benchmark("onnx"), at=LATER), "m/0002_run.json")
    newest = newest_cases(read_runs(tmp_path))
    assert list(zip(newest["contender"], newest["run"], strict=True)) == [("onnx", "m/0002_run.json")]


def test_each_machine_has_a_newest_run_of_its_own(tmp_path):
    save(tmp_path, run(*pair(), at=EARLIER), "m/0001_run.json")
    save(tmp_path, run(*pair(), at=LATER, machine=machine(threads=4)), "m/0002_run.json")
    assert newest_cases(read_runs(tmp_path))["run"].nunique() == 2


def test_the_report_imports_nothing_else_of_gptloop():
    imported = set()
    for path in Path(gptloop.report.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                whole = node.module == "gptloop"  # whose modules are imported from it
                imported |= {f"gptloop.{alias.name}" for alias in node.names} if whole else {node.module}
    ours = {name for name in imported if name.split(".")[0] == "gptloop"}
    assert "pandas" in imported
    others = {name for name in ours if not name.startswith("gptloop.report")}
    neither = {"gptloop.metrics", "gptloop.quantities", "gptloop.console", "gptloop.ending"}
    assert others <= neither, "which know neither graph nor model"
    assert not {name.split(".")[0] for name in imported} & {
        "torch",
        "onnx",
        "onnxruntime",
        "transformers",
        "pytest_benchmark",
    }


def test_nothing_imports_the_command_line():
    root = Path(gptloop.report.__file__).parents[2]
    sources = [path for room in ("gptloop", "benchmarks") for path in (root / room).rglob("*.py")]
    importing = [path.name for path in sources if "gptloop.report.command" in path.read_text(encoding="utf-8")]
    assert importing == ["__main__.py"]
    assert not any("gptloop.report.__main__" in path.read_text(encoding="utf-8") for path in sources)
