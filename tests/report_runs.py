"""Builds saved runs in the shape pytest-benchmark 5 and gptloop's suite give them, for the report's tests."""

import html
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from gptloop import metrics
from gptloop.report.compare import compare_cases
from gptloop.report.runs import newest_cases, read_runs

TITLES = {
    "1x1": "one prompt, one candidate",
    "8x1": "8 prompts",
    "64x1": "64 prompts",
    "1x64": "64 candidates of one prompt",
}
CPU = "Intel(R) Xeon(R) Processor"


# What a contender of three rounds has beside them where its ceiling was measured.
CEILING = {
    "ceiling_kind": "all_products",
    "ceiling_rounds_s": [1.0, 1.0, 1.0],
    "ceiling_ttft_rounds_s": [0.1, 0.1, 0.1],
    "products_rounds_s": [0.8, 0.8, 0.8],
    "all_products_rounds_s": [1.0, 1.0, 1.0],
    "bandwidth_rounds_s": [0.4, 0.4, 0.4],
}

# What a CUDA trace counted of a decode step.
STEP_COUNTS = {
    "kernels": 123.0,
    "host_to_device": 1.03,
    "device_to_host": 0.0,
    "synchronisations": 2.0,
    "pinned_allocations": 0.0,
    "graph_launches": 0.0,
    "memsets": 5.0,
}


def machine(**changes: Any) -> dict[str, Any]:
    versions = {
        "python": "3.11.7",
        "torch": "2.13.0",
        "transformers": "5.2.0",
        "onnx": "1.22.0",
        "onnxruntime": "1.31.0",
    }
    facts = {"cpu": CPU, "gpu": None, "driver": None, "cuda": None, "device": "cpu", "threads": 2}
    return {**facts, "versions": {**versions, "gptloop": "0.1.0"}, **changes}


def gpu_machine(**changes: Any) -> dict[str, Any]:
    return machine(gpu="NVIDIA H200", driver="570.86", cuda="12.8", device="cuda", threads=16, **changes)


def benchmark(
    contender: str = "onnx",
    rounds: tuple[float, ...] = (1.0, 1.0, 1.0),
    size: str = "gpt2",
    workload: str = "8x1",
    precision: str = "fp32",
    **changes: Any,
) -> dict[str, Any]:
    """One entry of `benchmarks`; `changes` replace fields of `extra_info`, or its `group`."""
    group = changes.pop("group", f"{size} {workload} {precision}")
    names = {"size": size, "workload": workload, "contender": contender, "precision": precision}
    return {
        "group": group,
        "name": f"test_generate[{size}-{contender}]",
        "fullname": f"benchmarks/test_generate.py::test_generate[{size}-{contender}]",
        "params": {"contender": contender},
        "param": contender,
        "extra_info": _work(workload) | names | _times(contender, rounds, workload, changes) | changes,
        "options": {"disable_gc": False, "timer": "perf_counter", "warmup": False},
        "stats": {"min": min(rounds), "max": max(rounds), "rounds": len(rounds), "iterations": 1, "data": list(rounds)},
    }


def _work(workload: str) -> dict[str, Any]:
    """What all contenders of a case share."""
    prompts, candidates = map(int, workload.split("x"))
    return {
        "schema": 1,
        "workload_title": TITLES.get(workload, workload),
        "weights": "random, seed 0",
        "device": "cpu",
        "prompts": prompts,
        "prompt_len": 36,
        "num_return_sequences": candidates,
        "max_new_tokens": 36,
        "temperature": 1.0,
        "top_k": 50,
    }


def _times(contender: str, rounds: tuple[float, ...], workload: str, changes: dict[str, Any]) -> dict[str, Any]:
    """What was measured beside the rounds."""
    rows = math.prod(map(int, workload.split("x")))
    new_tokens = changes.get("max_new_tokens", 36)
    ttft_s, total_s = min(rounds) / 10, statistics.median(rounds)
    check = "baseline" if contender == "torch" else "tokens equal while sampling"
    tpot_s = metrics.time_per_output_token_s(total_s, ttft_s, new_tokens) if new_tokens > 1 else None
    return {
        "ttft_rounds_s": [ttft_s] * 3,
        "ttft_s": ttft_s,
        "time_per_output_token_s": tpot_s,
        "tokens_per_s": metrics.tokens_per_s(total_s, rows, new_tokens),
        "load_s": 0.5,
        "peak_memory_bytes": 1_234_000_000,
        "alone_rounds_s": [],
        "parity": {"check": check, "rows": rows, "excused_rows": 0},
    }


def run(*benchmarks: dict[str, Any], at: str = "2026-11-22T14:18:07.623274+00:00", **changes: Any) -> dict[str, Any]:
    """A whole run; `commit` and `machine` replace its parts."""
    commit = {"id": "0123456789abcdef0123456789abcdef01234567", "time": at, "branch": "main", "dirty": False}
    return {
        "machine_info": {"node": "vm", "cpu": {"brand_raw": CPU}, "gptloop": changes.get("machine", machine())},
        "commit_info": {**commit, "project": "gptloop", **changes.get("commit", {})},
        "benchmarks": list(benchmarks),
        "datetime": at,
        "version": "5.3.1",
    }


def pair(**changes: Any) -> list[dict[str, Any]]:
    """Torch and ONNX on one case, the ONNX loop twice as fast in every round."""
    return [benchmark("torch", (2.0, 2.2, 2.4), **changes), benchmark("onnx", (1.0, 1.1, 1.2), **changes)]


def save(folder: Path, content: dict[str, Any], name: str = "Linux-CPython-3.11-64bit/0001_run.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def compared(folder: Path, *benchmarks: dict[str, Any], **changes: Any) -> pd.DataFrame:
    """The frame that a report shows of a run with these benchmarks, saved in a folder beside what is there."""
    save(folder, run(*benchmarks, **changes))
    return compare_cases(newest_cases(read_runs(folder)))


def words(svg: bytes) -> list[str]:
    """The texts of a chart."""
    return [html.unescape(found) for found in re.findall(r"<text[^>]*>([^<]*)</text>", svg.decode())]
