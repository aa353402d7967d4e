"""Which rounds met which placement of the cores, and their times and speedups."""

import json
import math
import re

import pytest
from report_runs import benchmark, compared, machine, run, save

from gptloop.report.errors import ReportError
from gptloop.report.page import page_html
from gptloop.report.placement import APART, MOVED, NEAR, ONE_CORE, by_placement
from gptloop.report.runs import read_runs
from gptloop.report.summary import summary_markdown
from gptloop.report.tables import PLACEMENT

# Seconds of an own and an exchanged pass.
PASSES = {NEAR: (17e-6, 35e-6), APART: (20e-6, 128e-6), ONE_CORE: (31e-6, 35e-6)}


def beside(*moments: tuple[str, str]) -> dict[str, list[list[float]]]:
    """What a run saves of the placement before and after each round."""
    own, exchanged = ([[PASSES[place][kind] for place in moment] for moment in moments] for kind in (0, 1))
    return {"own_passes_s": own, "exchanged_passes_s": exchanged}


def still(*places: str) -> dict[str, list[list[float]]]:
    return beside(*((place, place) for place in places))


def placed(folder, *benchmarks: dict, **changes) -> dict[tuple[str, str], dict]:
    rows = by_placement(compared(folder, *benchmarks, **changes)).to_dict("records")
    return {(row["contender"], row["placement"]): row for row in rows}


def test_rounds_are_told_apart_by_where_the_cores_were(tmp_path):
    rows = placed(
        tmp_path,
        benchmark("torch", (4.0, 4.0, 4.4, 5.0), **still(NEAR, NEAR, NEAR, ONE_CORE)),
        benchmark("onnx", (1.0, 2.0, 2.0, 2.5), **still(NEAR, APART, APART, ONE_CORE)),
    )
    assert list(rows) == [("torch", NEAR), ("torch", ONE_CORE), ("onnx", NEAR), ("onnx", APART), ("onnx", ONE_CORE)]
    apart = rows["onnx", APART]
    assert apart["rounds_s"] == [2.0, 2.0]
    assert (apart["median_s"], apart["min_s"], apart["max_s"]) == (2.0, 2.0, 2.0)
    # Of the rounds in which the baseline's cores were placed alike, each with the one of the same number.
    assert math.isnan(apart["speedup"])
    assert [rows["onnx", ONE_CORE][name] for name in ("speedup_min", "speedup", "speedup_max")] == [2.0, 2.0, 2.0]
    assert rows["onnx", NEAR]["speedup"] == 4.0
    assert math.isnan(rows["torch", NEAR]["speedup"])


def test_a_round_in_which_the_cores_moved_belongs_to_neither_place(tmp_path):
    moments = beside((NEAR, NEAR), (NEAR, APART), (APART, NEAR))
    rows = placed(tmp_path, benchmark("onnx", (1.0, 2.0, 3.0), **moments))
    assert {place: row["rounds_s"] for (_, place), row in rows.items()} == {NEAR: [1.0], MOVED: [2.0, 3.0]}
    assert math.isnan(rows["onnx", NEAR]["speedup"])  # there is no baseline


def test_places_are_judged_by_the_machines_best_pass_of_all_its_cases(tmp_path):
    here = [
        benchmark("onnx", workload="1x1", **still(NEAR, NEAR, NEAR)),
        benchmark("onnx", **still(APART, APART, NEAR)),
    ]
    assert set(placed(tmp_path / "a", *here)) == {("onnx", APART), ("onnx", NEAR)}
    # Another machine's faster passes say nothing of this one, of which 128 us are less than twice the best.
    save(tmp_path / "b", run(*here[:1], machine=machine(threads=4)), "m/0002_run.json")
    slow = {"own_passes_s": [[17e-6] * 2] * 3, "exchanged_passes_s": [[69e-6] * 2, [128e-6] * 2, [128e-6] * 2]}
    assert placed(tmp_path / "b", benchmark("onnx", **slow)) == {}


def test_a_slow_exchange_is_apart_whatever_else_was_slow(tmp_path):
    passes = {"own_passes_s": [[17e-6] * 2, [29e-6] * 2], "exchanged_passes_s": [[35e-6] * 2, [185e-6] * 2]}
    rows = placed(tmp_path, benchmark("onnx", (1.0, 2.0), **passes))
    assert [place for _, place in rows] == [NEAR, APART]


@pytest.mark.parametrize("places", [(), (NEAR, NEAR, NEAR)])
def test_where_the_cores_stayed_or_nobody_looked_there_is_nothing_to_tell(tmp_path, places):
    frame = compared(tmp_path, benchmark("torch", **still(*places)), benchmark("onnx", **still(*places)))
    assert by_placement(frame).empty
    assert PLACEMENT.title not in summary_markdown(frame)
    assert PLACEMENT.title not in page_html(frame, {})


def test_the_report_has_a_table_of_it(tmp_path):
    frame = compared(
        tmp_path,
        benchmark("torch", (4.0, 4.0, 4.0), **still(NEAR, NEAR, NEAR)),
        benchmark("onnx", (1.0, 2.0, 2.0), **still(NEAR, APART, APART)),
    )
    section = summary_markdown(frame).split(f"<summary>{PLACEMENT.title}")[1].split("</details>")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\|.*$", section, re.MULTILINE)]
    assert lines[0] == ["size", "workload", *PLACEMENT.headers]
    assert [line[2:] for line in lines[2:]] == [
        ["PyTorch loop", "fp32", "near", "3", "4.00 s [4.00-4.00]", "baseline"],
        ["ONNX loop", "fp32", "near", "1", "1.00 s [1.00-1.00]", "4.00x [4.00-4.00]"],
        ["ONNX loop", "fp32", "apart", "2", "2.00 s [2.00-2.00]", "-"],
    ]
    assert PLACEMENT.title in page_html(frame, {})


def test_passes_of_another_number_than_the_rounds_are_refused(tmp_path):
    frame = compared(tmp_path, benchmark("onnx", (1.0, 1.0, 1.0), **still(NEAR, APART)))
    with pytest.raises(ReportError, match=r"'gpt2 8x1 fp32', contender 'onnx': passes beside 2 and 2 of its 3 rounds"):
        by_placement(frame)


@pytest.mark.parametrize("name", ["own_passes_s", "exchanged_passes_s"])
@pytest.mark.parametrize("value", [None, [1.0], [[1.0]], [[1.0, 0.0]], [[1.0, 1.0, 1.0]]])
def test_what_are_no_pairs_is_refused(tmp_path, name, value):
    save(tmp_path, run(benchmark("onnx", **{**still(NEAR, NEAR, NEAR), name: value})))
    shown = re.escape(json.dumps(value))
    with pytest.raises(ReportError, match=rf"'{name}' = {shown}, expected a list, maybe empty, of pairs of times"):
        read_runs(tmp_path)
