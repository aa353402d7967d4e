"""The reproductions in docs/upstream: what they say of ONNX Runtime is so with the version that is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

UPSTREAM = Path(__file__).parents[1] / "docs" / "upstream"
SCRIPTS = sorted(UPSTREAM.glob("*.py"))


def output(name: str, *arguments: str) -> str:
    """What a script says, on either stream, without colours."""
    command = [sys.executable, UPSTREAM / f"{name}.py", *arguments]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


def test_every_iteration_copies_the_cache_that_tensorscatter_writes_one_row_of():
    said = output("tensor_scatter_in_loop")
    for length in (64, 1024, 16384):
        copied = f"copying past_cache to present_cache ({12 * length * 64 * 4} bytes)"
        assert said.count(copied) == 2  # calls of one iteration each


def test_memory_is_reserved_for_a_packed_constant_one_graph_up_and_not_two():
    parts = re.split(r"(?m)^(?=one Loop|a Loop)", output("constants_two_graphs_up", "--log"))[1:]
    reserved = [len(re.findall(rf"Reserving memory .* size: {1024 * 4096 * 4}$", part, re.MULTILINE)) for part in parts]
    names = [part.partition(":")[0] for part in parts]
    assert dict(zip(names, reserved, strict=True)) == {
        "one Loop, packing as by default": 1,
        "one Loop, packing disabled": 0,
        "a Loop in a Loop, packing as by default": 0,
        "a Loop in a Loop, packing disabled": 0,
    }


def test_links_are_refused_where_a_loops_body_names_them():
    said = output("linked_external_data")
    found = {match.group(1, 2): match[3] for match in re.finditer(r"(?m)^(\S+), initializer of the (.*?): (.*)$", said)}
    runs = "opens and runs"
    files = ("plain.data", "hard-link.data", "symbolic-link.data")
    assert [found[file, "main graph"] for file in files] == [runs] * 3
    assert found["plain.data", "Loop's body"] == runs
    assert "multiple hard links" in found["hard-link.data", "Loop's body"]
    assert "is a symbolic link" in found["symbolic-link.data", "Loop's body"]


def test_a_bias_behind_scaled_rows_is_scaled_too_once_the_product_is_fused():
    found = dict(re.findall(r"(?m)^(MatMul.*): (\[\[.*\]\])$", output("bias_times_row_scales")))
    assert found == {
        "MatMulInteger, Cast, Mul, Mul, Add": "[[12.0, 21.5], [16.0, 24.5]]",
        "MatMulIntegerToFloat": "[[12.0, 21.5], [36.0, 64.5]]",
    }


def test_scales_of_columns_may_as_well_be_multiplied_behind_the_product():
    assert output("column_scales_one_by_one").endswith("the results are equal\n")


def test_a_sum_of_exponentials_depends_on_what_a_row_begins_with():
    found = re.findall(r"(?m)^\[.*\]: (.*), expected (.*)$", output("log_sum_exp_behind_infinity"))
    assert found == [("-199.307", "-199.307"), ("-inf", "-199.307"), ("-50.000", "-50.000")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_reproduction_is_short_and_needs_onnx_onnxruntime_and_numpy_only(script):
    source = script.read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"numpy", "onnx", "onnxruntime"}
    assert len([line for line in source.splitlines() if line.strip()]) <= 50
    assert script.with_suffix(".md").exists()
