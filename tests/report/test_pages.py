"""What the report writes into pages of the project, and that the pages of this repository are what it writes."""

import re
from pathlib import Path

import pytest
from report_runs import benchmark, compared, gpu_machine, machine, pair, run, save

from gptloop.report.budgets import read_budgets
from gptloop.report.command import main
from gptloop.report.compare import compare_cases
from gptloop.report.errors import ReportError
from gptloop.report.notes import read_notes
from gptloop.report.pages import RECORDS, RESULTS, results_block, with_block
from gptloop.report.results import (
    MOST_OTHERS,
    MOST_ROWS,
    newest_machine,
    other_machines_markdown,
    records_markdown,
    results_markdown,
)
from gptloop.report.runs import newest_cases, newest_machines, read_runs
from gptloop.report.summary import summary_markdown
from gptloop.report.trend import find_trends

ROOT = Path(__file__).parents[2]
AGAIN = "python -m gptloop.report reports/ --readme README.md --records docs/speed.md"
LATER = "2026-11-23T00:00:00+00:00"


def lines(markdown: str) -> list[list[str]]:
    """The cells of a table's rows, its headers first."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\|.*$", markdown, re.MULTILINE)]
    return [rows[0], *rows[2:]]


# This repository


@pytest.fixture(scope="module")
def committed():
    """The runs of this repository, and what is compared of them."""
    runs = newest_machines(read_runs(ROOT / "reports"))
    return compare_cases(runs), compare_cases(newest_cases(runs))


def test_the_readme_says_what_the_committed_runs_say(committed):
    page = ROOT / "README.md"
    block = results_block(committed[1], ROOT / "reports", page)
    assert with_block(page, RESULTS, block) == page.read_bytes(), f"not what the saved runs say: {AGAIN}"
    assert (ROOT / re.search(r"!\[.*\]\((.*)\)", block)[1]).is_file(), "the chart is not committed"


def test_the_record_says_what_the_committed_runs_say(committed):
    page = ROOT / "docs" / "speed.md"
    assert with_block(page, RECORDS, records_markdown(committed[0])) == page.read_bytes(), f"stale: {AGAIN}"


def test_the_committed_report_is_of_the_committed_runs(committed):
    summary = (ROOT / "reports" / "summary.md").read_text(encoding="utf-8")
    gated = list(read_budgets(ROOT / "benchmarks" / "gate" / "budgets.toml").cases)
    notes = read_notes(ROOT / "reports", committed[0]["run"])
    trends = find_trends(committed[0], gated, notes)
    assert summary == summary_markdown(committed[1], trends=trends), f"stale: {AGAIN}"
    for slug in committed[1]["fingerprint"].unique():
        for kind in ("speedup", "ladder", "history", "tokens_per_s", "latency"):
            assert (ROOT / "reports" / "charts" / f"{kind}-{slug}.svg").is_file()


# The table of results


def test_fp32_and_int8_of_one_run_are_one_row_beside_the_best_peer(tmp_path):
    int8 = benchmark("onnx_int8", (0.5, 0.55, 0.6), precision="int8", group="gpt2 8x1 fp32")
    peers = [benchmark("hf_generate", (4.0,) * 3), benchmark("ctranslate2", (1.5,) * 3)]
    others = [benchmark("onnx_step", (0.1,) * 3), benchmark("torch_tiled", (0.1,) * 3)]  # no peers, though faster
    cases = newest_machine(compared(tmp_path, *pair(), int8, *peers, *others))
    assert lines(results_markdown(cases)) == [
        [
            *("size", "workload", "ONNX loop, fp32", "ONNX loop, int8", "TTFT, fp32", "TTFT, int8"),
            *("PyTorch loop", "best peer", "date"),
        ],
        [
            *("gpt2", "8 prompts", "1.10 s, 2.00x", "550 ms, 4.00x", "100 ms, 2.00x", "50.0 ms, 4.00x"),
            *("2.20 s", "CTranslate2: 1.50 s", "2026-11-22"),
        ],
    ]


def test_precisions_in_groups_of_their_own_are_one_row_too(tmp_path):
    int8 = pair(group="gpt2 8x1 int8")
    int8[1]["extra_info"]["precision"] = "int8"
    _, *rows = lines(results_markdown(compared(tmp_path, *pair(), *int8)))
    assert [row[2:7] for row in rows] == [["1.10 s, 2.00x"] * 2 + ["100 ms, 2.00x"] * 2 + ["2.20 s"]]


def test_what_was_not_measured_is_a_dash(tmp_path):
    _, *rows = lines(results_markdown(compared(tmp_path, benchmark("onnx"), benchmark("torch", workload="1x1"))))
    assert [row[:6] for row in rows] == [["gpt2", "8 prompts", "1.00 s", "100 ms", "-", "-"]]


def test_the_rows_are_gpt2s_then_others_and_no_more_than_eight(tmp_path):
    small = [one for workload in ("1x1", "8x1", "64x1") for one in pair(size="distilgpt2", workload=workload)]
    first = [one for workload in ("1x1", "8x1", "64x1", "1x64") for one in pair(workload=workload)]
    large = [one for size in ("gpt2-xl", "gpt2-large") for one in pair(size=size)]
    _, *rows = lines(results_markdown(compared(tmp_path, *large, *small, *first)))
    assert [row[0] for row in rows] == ["gpt2"] * 4 + ["distilgpt2"] * 3 + ["gpt2-large"]
    assert len(rows) == MOST_ROWS


def test_the_rows_are_of_the_machine_with_the_newest_run_and_of_each_case_s_newest(tmp_path):
    save(tmp_path, run(*pair(), *pair(workload="1x1"), at="2026-11-20T00:00:00+00:00"), "m/0001_run.json")
    save(tmp_path, run(*pair(device="cuda"), machine=gpu_machine()), "m/0002_run.json")
    slower = [benchmark("torch", (2.0,) * 3), benchmark("onnx", (1.6,) * 3)]
    save(tmp_path, run(*slower, at=LATER), "m/0003_run.json")
    frame = compare_cases(newest_cases(read_runs(tmp_path)))
    _, *rows = lines(results_markdown(newest_machine(frame)))
    assert [(row[1], row[2], row[-1]) for row in rows] == [
        ("one prompt, one candidate", "1.10 s, 2.00x", "2026-11-20"),
        ("8 prompts", "1.60 s, 1.25x", "2026-11-23"),
    ]
    assert "NVIDIA" not in results_markdown(newest_machine(frame))


def test_other_machines_are_a_line_each_with_the_range_of_their_cases(tmp_path):
    faster = [benchmark("torch", (2.0,) * 3, workload="1x1"), benchmark("onnx", (0.5,) * 3, workload="1x1")]
    for number in range(MOST_OTHERS + 1):
        other = machine(cpu=f"CPU {number}", threads=1)
        run_ = run(*pair(), *faster, machine=other, at=f"2026-11-1{number}T00:00:00+00:00")
        save(tmp_path, run_, f"m/000{number}_run.json")
    save(tmp_path, run(*pair(), at=LATER), "m/0009_run.json")
    heading, _, *items = other_machines_markdown(compare_cases(newest_cases(read_runs(tmp_path)))).splitlines()
    assert heading == "Speedups over the PyTorch loop on the 3 other machines measured last, all cases:"
    assert items == [f"- CPU CPU {number}, 1 thread, 2026-11-1{number}: 2.00x to 4.00x in fp32" for number in (3, 2, 1)]
    (tmp_path / "m" / "0000_run.json").unlink()
    heading = other_machines_markdown(compare_cases(newest_cases(read_runs(tmp_path)))).splitlines()[0]
    assert heading == "Speedups over the PyTorch loop on other machines, all cases:"
    assert other_machines_markdown(compared(tmp_path / "alone", *pair())) == ""


def test_the_grounds_are_stated(tmp_path):
    words = results_markdown(compared(tmp_path, *pair())).replace("\n", " ")
    for fact in (
        "torch 2.13.0",
        "seeded random weights (random, seed 0)",
        "the median of 3 interleaved rounds",
        "fp32",
        "A row has 36 prompt + 36 new tokens.",
    ):
        assert fact in words


def test_the_grounds_name_the_peers_that_were_measured_and_no_other(tmp_path):
    peers = [benchmark("hf_generate", (4.0,) * 3), benchmark("torch_int8", (1.5,) * 3, precision="int8")]
    page = results_markdown(compared(tmp_path / "some", *pair(), *peers))
    assert "Peers measured here: PyTorch loop, int8; Hugging Face generate. The best" in page.replace("\n", " ")
    assert "PyTorch loop, int8: 1.50 s" in page
    assert "CTranslate2" not in page
    none = results_markdown(compared(tmp_path / "none", *pair())).replace("\n", " ")
    assert none.endswith(" No peer was measured.")


def test_the_grounds_say_what_two_numbers_of_tokens_are(tmp_path):
    words = results_markdown(compared(tmp_path, *pair(), *pair(size="gpt2-large", prompt_len=16)))
    assert "16 + 36 tokens" in words
    assert "Tokens of a row: prompt + new." in words.replace("\n", " ")


def test_a_hostile_name_stays_in_its_cell(tmp_path):
    hostile = "a|b <x> `q` ](u) ![i](j)"
    frame = compared(tmp_path, *pair(size=hostile, workload_title=hostile), machine=machine(cpu=hostile))
    block = results_block(frame, tmp_path, tmp_path / "README.md")
    assert not re.search(r"(?<!\\)[<`]", block)
    assert re.search(r"^!\[[^\]\[]*\]\(charts/speedup-[a-z0-9-]+\.svg\)$", block, re.MULTILINE)


# The record


def test_the_record_has_a_row_for_each_run_with_one_of_its_cases_oldest_first(tmp_path):
    int8 = benchmark("onnx_int8", (0.5, 0.55, 0.6), precision="int8", group="gpt2 8x1 fp32")
    save(tmp_path, run(*pair(), int8, at=LATER, commit={"dirty": True}), "m/0002_run.json")
    save(
        tmp_path, run(*pair(workload="1x64"), *pair(size="gpt2-xl"), at="2026-11-20T00:00:00+00:00"), "m/0001_run.json"
    )
    others = [*pair(size="gpt2-xl"), *pair(workload="1x1", prompt_len=900)]
    save(tmp_path, run(*others, at="2026-11-21T00:00:00+00:00"), "m/0003_run.json")
    headers, *rows = lines(records_markdown(compare_cases(read_runs(tmp_path))))
    assert headers[:5] == ["date", "commit", "machine", "one row, fp32", "one row, int8"]
    assert headers[5:] == ["8 prompts, fp32", "8 prompts, int8", "64 candidates, fp32", "64 candidates, int8"]
    cpu = "CPU Intel(R) Xeon(R) Processor, 2 threads"
    assert rows == [
        ["2026-11-20", "0123456789", cpu, "-", "-", "-", "-", "1.10 s, 2.00x", "-"],
        ["2026-11-23", "0123456789 (dirty)", cpu, "-", "-", "1.10 s, 2.00x", "550 ms, 4.00x", "-", "-"],
    ]


# Pages


PAGE = "# Page\n\n<!-- results -->\nold\n<!-- end of results -->\n\nKept \\1 as it is.\n"


def test_the_command_writes_between_the_marks_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setattr("gptloop.report.files.render_charts", lambda *_: {})
    monkeypatch.setattr("gptloop.report.files.render_history", lambda *_: {})
    save(tmp_path / "reports", run(*pair()))
    readme, records = tmp_path / "README.md", tmp_path / "docs" / "speed.md"
    records.parent.mkdir()
    readme.write_text(PAGE)
    records.write_text(PAGE.replace("results", "records"))
    command = [str(tmp_path / "reports"), "--readme", str(readme), "--records", str(records)]
    assert main(command) == 0
    for page in (readme, records):
        before, _, after = page.read_text().partition("<!-- end of")
        assert before.startswith("# Page\n\n<!-- re")
        assert "| gpt2 | 8 prompts |" in before or "| 2026-11-22 |" in before
        assert after.endswith("-->\n\nKept \\1 as it is.\n")
    assert "](reports/charts/speedup-cpu-" in readme.read_text()
    written = readme.read_bytes(), records.read_bytes()
    assert main(command) == 0
    assert (readme.read_bytes(), records.read_bytes()) == written


@pytest.mark.parametrize(
    "content",
    ["# Page\n", PAGE + PAGE, PAGE.replace("<!-- end of", "<!-- end"), PAGE.replace("<!-- res", "x <!-- res")],
)
def test_a_page_without_one_place_is_refused_and_nothing_written(tmp_path, capsys, monkeypatch, content):
    monkeypatch.setattr("gptloop.report.files.render_charts", lambda *_: {})
    monkeypatch.setattr("gptloop.report.files.render_history", lambda *_: {})
    save(tmp_path / "reports", run(*pair()))
    readme = tmp_path / "README.md"
    readme.write_text(content)
    assert main([str(tmp_path / "reports"), "--readme", str(readme)]) == 2
    assert re.search(r"README\.md: has [02] places for the results, expected one", capsys.readouterr().err)
    assert readme.read_text() == content
    assert not (tmp_path / "reports" / "summary.md").exists()


def test_a_page_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere\.md: cannot be read"):
        with_block(tmp_path / "nowhere.md", RESULTS, "")
