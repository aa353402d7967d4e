"""The Markdown that a person pastes into a pull request."""

import re

import pytest
from report_runs import CEILING, STEP_COUNTS, benchmark, compared, gpu_machine, machine, pair, run, save

from gptloop.report.markdown import escape
from gptloop.report.summary import summary_markdown

HOSTILE = r"a|b <x> $\frac{1}{0}$ `q` _e_ *s* [l](u) & #1 ~t~ \ 100%"


def summary(folder, *benchmarks: dict, **changes) -> str:
    return summary_markdown(compared(folder, *benchmarks, **changes))


def cells(line: str) -> list[str]:
    """The cells of a table's line, as GitHub splits it: at pipes without a backslash."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(markdown: str) -> list[list[list[str]]]:
    found = re.findall(r"(?:^\|.*\n?)+", markdown, flags=re.MULTILINE)
    return [[cells(line) for line in one.splitlines()] for one in found]


def test_the_first_table_is_the_onnx_loop_against_the_pytorch_loop(tmp_path):
    markdown = summary(tmp_path, *pair(), *pair(size="gpt2-medium", workload="1x64"))
    assert tables(markdown)[0] == [
        ["size", "workload", "ONNX loop", "PyTorch loop", "speedup", "TTFT", "TTFT speedup", "rounds"],
        ["-" * 11, "-" * 27, "--------:", "-----------:", "----------------:", "-----:", "----------------:", "-----:"],
        ["gpt2", "8 prompts", "1.10 s", "2.20 s", "2.00x [2.00-2.00]", "100 ms", "2.00x [2.00-2.00]", "3"],
        [
            *("gpt2-medium", "64 candidates of one prompt", "1.10 s", "2.20 s"),
            *("2.00x [2.00-2.00]", "100 ms", "2.00x [2.00-2.00]", "3"),
        ],
    ]
    assert "### Speedup over the KV-cached PyTorch loop, fp32 vs fp32, random weights" in markdown


def test_the_second_table_holds_every_contender(tmp_path):
    slow = benchmark(
        "hf_generate", (4.0, 4.4, 4.8), parity={"check": "tokens equal, greedy", "rows": 640, "excused_rows": 2}
    )
    header, _, torch, generate, onnx = tables(summary(tmp_path, *pair(), slow))[1]
    assert [line[2] for line in (torch, generate, onnx)] == ["PyTorch loop", "Hugging Face generate", "ONNX loop"]
    assert dict(zip(header, generate, strict=True)) == {
        "size": "gpt2",
        "workload": "8 prompts",
        "contender": "Hugging Face generate",
        "precision": "fp32",
        "time": "4.40 s [4.00-4.80]",
        "speedup": "0.50x [0.50-0.50]",
        "TTFT": "400 ms",
        "TTFT speedup": "0.50x [0.50-0.50]",
        "time per output token": "114 ms",
        "tokens/s": "65.5",
        "time / ceiling": "-",
        "load": "500 ms",
        "peak memory": "1.23 GB",
        "parity": "tokens equal, greedy, 2 of 640 rows excused",
    }
    assert torch[header.index("speedup")] == "baseline"


def test_a_missing_baseline_is_a_dash(tmp_path):
    first, second = tables(summary(tmp_path, benchmark("onnx")))
    assert first[2] == ["gpt2", "8 prompts", "1.00 s", "-", "-", "100 ms", "-", "3"]
    assert second[2][5] == "-"


def test_a_missing_onnx_loop_is_a_dash(tmp_path):
    first = tables(summary(tmp_path, benchmark("torch"), benchmark("hf_generate")))[0]
    assert first[2] == ["gpt2", "8 prompts", "-", "1.00 s", "-", "-", "-", "-"]


def test_what_was_not_measured_is_a_dash(tmp_path):
    # One new token: only the prompt is run, there is no second token to time.
    markdown = summary(tmp_path, benchmark("onnx", max_new_tokens=1, peak_memory_bytes=None))
    header, _, onnx = tables(markdown)[1]
    line = dict(zip(header, onnx, strict=True))
    assert (line["time per output token"], line["peak memory"]) == ("-", "-")
    assert "36 prompt + 1 new tokens" in markdown


def test_fp32_comes_before_other_precisions(tmp_path):
    int8 = [benchmark("torch", group="int8"), benchmark("onnx", group="int8", precision="int8")]
    titles = re.findall(r"^### Speedup.*loop, (.*), random weights$", summary(tmp_path, *int8, *pair()), re.MULTILINE)
    assert titles == ["fp32 vs fp32", "int8 vs fp32"]


def test_the_control_is_folded_away(tmp_path):
    markdown = summary(tmp_path, *pair(alone_rounds_s=[1.1, 1.1]))
    folded = re.search(r"<details>\n<summary>Control: .*</summary>\n\n(\|[\s\S]*\|)\n\n</details>", markdown)
    onnx = tables(folded.group(1))[0][-1]
    assert onnx == ["gpt2", "8 prompts", "ONNX loop", "fp32", "1.10 s", "1.10 s", "1.00x"]


def test_without_a_control_there_is_nothing_to_fold(tmp_path):
    assert "<details>" not in summary(tmp_path, *pair())


def test_a_machine_is_described_once_with_its_run(tmp_path):
    changes = {"machine": gpu_machine(), "commit": {"dirty": True}}
    markdown = summary(tmp_path, *pair(device="cuda"), **changes)
    assert "## GPU NVIDIA H200, CUDA 12.8, driver 570.86, host Intel(R) Xeon(R) Processor, 16 threads" in markdown
    assert "- Versions: onnx 1.22.0, onnxruntime 1.31.0, python 3.11.7, torch 2.13.0, transformers 5.2.0" in markdown
    assert "Run: 2026-11-22 14:18 UTC, commit 0123456789 (dirty) on main, gptloop 0.1.0: gpt2" in markdown
    assert "- Work: 36 prompt + 36 new tokens, temperature 1, top_k 50" in markdown


@pytest.mark.parametrize(
    ("page_bytes", "words"), [(1 << 21, "gptloop 0.1.0, huge pages of 2,097,152 bytes"), (0, "0.1.0, no huge pages")]
)
def test_a_run_says_which_huge_pages_there_were(tmp_path, page_bytes, words):
    (line,) = re.findall("^- Run: .*$", summary(tmp_path, *pair(), machine=machine(huge_page_bytes=page_bytes)), re.M)
    assert f"{words}: gpt2 8x1 fp32 (" in line


def test_random_weights_are_said_loudly(tmp_path):
    loud = "**seeded random weights (random, seed 0): speed does not depend on the values**"
    markdown = summary(tmp_path, *pair())
    assert loud in markdown
    assert markdown.count(", random weights\n") == 2


def test_pretrained_weights_are_not_called_random(tmp_path):
    markdown = summary(tmp_path, *pair(weights="pretrained"))
    assert "- Weights: pretrained weights\n" in markdown
    assert "random" not in markdown


def test_two_kinds_of_weights_name_their_sizes(tmp_path):
    markdown = summary(tmp_path, *pair(weights="pretrained"), *pair(size="gpt2-xl"))
    assert "pretrained weights (gpt2); seeded random weights (random, seed 0) (gpt2-xl)" in markdown
    assert "fp32 vs fp32, some with random weights\n" in markdown


def test_cases_that_differ_in_tokens_say_so(tmp_path):
    markdown = summary(tmp_path, *pair(), *pair(prompt_len=512, group="long"))
    assert [line[1] for line in tables(markdown)[0][2:]] == ["8 prompts, 36 + 36 tokens", "8 prompts, 512 + 36 tokens"]


def test_greedy_is_called_greedy(tmp_path):
    assert "36 new tokens, greedy\n" in summary(tmp_path, *pair(temperature=0))


def test_each_machine_has_a_section(tmp_path):
    save(tmp_path, run(*pair(), machine=machine(threads=1)), "m/0002_run.json")
    markdown = summary(tmp_path, *pair())
    assert sorted(re.findall(r"^## CPU .*, (.*)$", markdown, re.MULTILINE)) == ["1 thread", "2 threads"]
    assert len(tables(markdown)) == 4
    assert markdown.count("How to read this") == 1


def test_hostile_names_stay_in_their_cells(tmp_path):
    facts = {"size": HOSTILE, "workload_title": HOSTILE, "weights": HOSTILE}
    markdown = summary(tmp_path, *pair(**facts), benchmark(HOSTILE, **facts), machine=machine(cpu=HOSTILE))
    for lines in tables(markdown):
        assert len({len(line) for line in lines}) == 1
        assert lines[2][0] == escape(HOSTILE)
    assert not re.search(r"(?<!\\)[$<]", markdown)


def test_the_definitions_stand_at_the_end(tmp_path):
    ending = summary(tmp_path, *pair()).split("## How to read this")[1]
    assert all(f"**{word}**" in ending for word in ("Speedup", "TTFT", "Time per output token", "Tokens/s"))


def test_the_ceiling_has_a_table_with_its_bounds(tmp_path):
    markdown = summary(tmp_path, *pair()[:1], benchmark("onnx", (1.0, 1.1, 1.2), **CEILING))
    assert "### Ceiling, random weights" in markdown
    by_contender = {line[2]: line for line in tables(markdown)[1]}
    assert by_contender["ONNX loop"][10] == "1.10x"
    assert by_contender["PyTorch loop"][10] == "-"
    header, _, line = tables(markdown)[2]
    assert dict(zip(header[4:], line[4:], strict=True)) == {
        "time": "1.10 s",
        "products with weights": "800 ms",
        "all products": "1.00 s",
        "weights from memory": "400 ms",
        "bound by": "all products",
        "time / ceiling": "1.10x [1.00-1.20]",
    }


def test_a_step_on_a_gpu_has_a_table_of_what_it_does(tmp_path):
    traced = benchmark("onnx_lean", device="cuda", step_counts=STEP_COUNTS)
    markdown = summary(tmp_path, benchmark("torch", device="cuda"), traced, machine=gpu_machine())
    assert "### A decode step on the GPU, random weights" in markdown
    header, _, line = tables(markdown)[2]
    assert dict(zip(header[2:], line[2:], strict=True)) == {
        "contender": "ONNX loop, lean",
        "precision": "fp32",
        "kernels": "123",
        "copies to the GPU": "1",
        "copies to the host": "0",
        "synchronisations": "2",
        "pinned allocations": "0",
        "graph launches": "0",
    }


def test_a_trace_of_no_gpu_has_no_table(tmp_path):
    assert "A decode step" not in summary(tmp_path, benchmark("onnx", step_counts=STEP_COUNTS))


def test_the_growth_of_a_long_generation_has_a_table(tmp_path):
    early = {"early_tokens": 6, "early_rounds_s": [0.2] * 3, "early_time_per_output_token_s": 0.02}
    early["max_new_tokens"] = 36
    markdown = summary(tmp_path, benchmark("onnx", (1.0, 1.1, 1.2), **early))
    assert "### Growth with the length, random weights" in markdown
    header, _, line = tables(markdown)[2]
    # (1.1 - 0.1) / 35 = 28.6 ms
    assert dict(zip(header[4:], line[4:], strict=True)) == {
        "new tokens": "36",
        "time per output token": "28.6 ms",
        "first new tokens": "6",
        "over those": "20.0 ms",
        "growth": "1.43x [1.29-1.57]",
    }


def test_without_ceiling_or_long_generation_there_is_no_table_of_them(tmp_path):
    markdown = summary(tmp_path, *pair())
    assert "### Ceiling" not in markdown
    assert "### Growth" not in markdown
