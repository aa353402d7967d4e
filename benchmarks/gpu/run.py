"""All measurements that need a GPU, in one command: `python -m benchmarks.gpu --output FOLDER`.

Stages run one after another and write what they found as soon as they are done, so that a run that is cut short keeps
it: facts, correctness, a decode step's trace, the GPU's own speed, one stage for each case of the grid, the report.
When the time budget does not allow for another stage, it is skipped with a note. `--rehearse` runs every stage on a
tiny model on the CPU, to know that they work; its numbers mean nothing.

    FOLDER/stages.json       what ran, how long, what failed and why
    FOLDER/facts.json, correctness.json, trace.json, machine.json
    FOLDER/profiles/         kernels of each contender's traced call; nodes by provider, from ONNX Runtime's profile
    FOLDER/reports/          the runs, one for each case, with summary.md and charts of gptloop.report

Exits with 0, with 1 if a stage failed, and with 2 where there is no GPU to measure.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks import machine
from benchmarks.cases import GPU_GRID, Case, Workload
from benchmarks.contenders import Files
from benchmarks.gpu import checks
from benchmarks.gpu.stages import Stages, say, write_json
from benchmarks.machine import cuda
from benchmarks.measuring.measure import measure
from benchmarks.measuring.measurement import Measurement
from benchmarks.test_speed import extra_info
from gptloop.checkpoint.seeded import random_model
from gptloop.reference.parity import Parity
from gptloop.report.__main__ import main as report
from gptloop.runtime.session import open_session

BUDGET_S = 600.0
# Seconds to make, load and measure a case of a size, and to get a contender ready; guesses.
NEEDS_S = {"gpt2": 40, "gpt2-medium": 60, "gpt2-large": 100, "tiny": 1}
READY_S = {"torch_compiled": 40, "onnx_unrolled": 60}
TINY: dict[str, Any] = {"n_layer": 2, "n_head": 4, "n_embd": 32, "vocab_size": 97, "n_positions": 64}
SMALL: dict[str, Any] = {"prompt_len": 8, "max_new_tokens": 6, "top_k": 5}


@dataclass
class Plan:
    """What is run where.

    Attributes:
        device: "cuda", or "cpu" to rehearse.
        cases: The grid.
        size: Of the stages that are no case.
        workload: Of the stages that are no case.
        speed_sizes: For cuda.
    """

    device: str = "cuda"
    cases: tuple[Case, ...] = GPU_GRID
    size: str = "gpt2"
    workload: Workload = field(default_factory=lambda: GPU_GRID[0].workload)
    speed_sizes: dict[str, int] = field(default_factory=dict)


def rehearsal() -> Plan:
    """Every stage, tiny and on the CPU."""

    def tiny(case: Case) -> Case:
        candidates = min(case.workload.num_return_sequences, 4)
        workload = replace(case.workload, **SMALL, num_return_sequences=candidates)
        return replace(case, size="tiny", workload=workload, rounds=2, ceiling=False, early_tokens=0)

    groups: dict[str, Case] = {}
    for case in GPU_GRID:
        groups.setdefault(tiny(case).group, tiny(case))
    workload = next(iter(groups.values())).workload
    return Plan("cpu", tuple(groups.values()), "tiny", workload, {"side": 64, "copy_bytes": 1 << 16})


class Sizes:
    """Checkpoints with seeded weights, made when first asked for; with all exports, three sizes take 20 GB of disk."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, size: str) -> Files:
        """A size's files; exports are made by the contenders that need them."""
        checkpoint = self._folder / size
        if not checkpoint.exists():
            model = tiny_model() if size == "tiny" else random_model(size)
            model.save_pretrained(checkpoint)
        return Files.of(size, self._folder, checkpoint, "random, seed 0")


def tiny_model() -> GPT2LMHeadModel:
    """A model for rehearsals."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(**TINY, bos_token_id=None, eos_token_id=None)).eval()


def main(options: Sequence[str] | None = None) -> int:
    """The command."""
    chosen = _parse(options)
    if not chosen.rehearse and (reason := no_gpu()):
        print(f"benchmarks.gpu: no GPU to measure: {reason}", file=sys.stderr)
        return 2
    plan = rehearsal() if chosen.rehearse else Plan()
    if chosen.rehearse:
        torch.set_num_threads(1)  # a tiny model gains nothing from a second one
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "profiles").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gptloop-gpu-") as folder:
        return run_all(plan, Stages(chosen.output, chosen.budget_s), Sizes(Path(folder)))


def _parse(options: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description="all measurements that need a GPU")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where everything is written")
    help_ = f"seconds for all stages (default: {BUDGET_S:.0f})"
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, metavar="S", help=help_)
    parser.add_argument("--rehearse", action="store_true", help="every stage on the CPU with a tiny model")
    return parser.parse_args(options)


def no_gpu() -> str:
    """Why nothing can be measured here, in one line; empty where it can."""
    if not torch.cuda.is_available():
        return "torch.cuda.is_available() is false"
    try:
        from onnx import TensorProto, helper  # noqa: PLC0415

        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", value[:1], value[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        open_session(model.SerializeToString(), device="cuda")
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


def run_all(plan: Plan, stages: Stages, sizes: Sizes) -> int:
    """All stages, the most telling ones first."""
    reports = stages.folder / "reports"

    def looked_at(check: Callable[..., None]) -> None:
        check(sizes(plan.size), plan.workload, plan.device, stages.folder)

    stages.run("facts", 5, lambda: facts(plan))
    stages.run("correctness", needs_s(plan.cases[0]), lambda: looked_at(checks.correctness))
    stages.run("trace", needs_s(plan.cases[0]), lambda: looked_at(checks.trace))
    stages.run("machine", 5, lambda: speeds(plan))
    for number, case in enumerate(plan.cases, start=1):
        name = case.group.replace(" ", "-")
        path = reports / "gpu" / f"{number:04d}_{name}.json"
        stage = functools.partial(measure_case, plan, case, sizes, path)
        stages.run(f"case-{number}-{name}", needs_s(case), stage)
    stages.run("report", 0, lambda: render(reports))
    return 1 if stages.failed else 0


def needs_s(case: Case) -> float:
    """About how long a case takes, in seconds."""
    ready_s = 0 if case.size == "tiny" else sum(READY_S.get(name, 0) for name in case.contenders)
    return NEEDS_S.get(case.size, 60) + ready_s


def facts(plan: Plan) -> dict[str, Any]:
    """Hardware and versions, and what nvidia-smi says."""
    smi = shutil.which("nvidia-smi")
    said = subprocess.run([smi], check=False, capture_output=True, text=True).stdout if smi else ""
    return {**machine_facts(plan), "onnxruntime_providers": ort.get_available_providers(), "nvidia_smi": said}


def machine_facts(plan: Plan) -> dict[str, Any]:
    """As the suite's; a rehearsal is on the CPU wherever it runs."""
    found = machine.facts()
    return found if plan.device == "cuda" else found | {"device": "cpu", "gpu": None, "driver": None, "cuda": None}


def speeds(plan: Plan) -> dict[str, Any]:
    """The machine's bandwidth and rates, and the floor of each size under the published workload."""
    device, sizes = plan.device, plan.speed_sizes
    copy_bytes = sizes.get("copy_bytes", cuda.COPY_BYTES)
    rates = {p: cuda.flops_per_s(p, device, sizes.get("side", cuda.SIDE)) for p in ("fp32", "fp16")}
    return {"bandwidth_bytes_per_s": cuda.bandwidth_bytes_per_s(device, copy_bytes), "flops_per_s": rates}


def measure_case(plan: Plan, case: Case, sizes: Sizes, path: Path) -> dict[str, Any]:
    """Measure a case of the grid, and save it as a run of the suite."""
    files = sizes(case.size)
    found = measure(
        case,
        case.runs,
        files,
        GPT2Config.from_pretrained(files.checkpoint),
        device=plan.device,
        threads=torch.get_num_threads(),
        say=say,
        alone=False,
    )
    passed = {name: m for name, m in found.items() if m.passed}
    if passed:
        save_run(plan, case, passed, path)
    not_passed = {name: m.absent or str(m.parity) for name, m in found.items() if not m.passed}
    medians = {name: float(np.median(m.rounds_s)) for name, m in passed.items()}
    baseline = medians.get("torch")
    speedups = {name: baseline / median for name, median in medians.items()} if baseline else {}
    return {"median_s": medians, "speedup_over_torch": speedups, "not_passed": not_passed}


def save_run(plan: Plan, case: Case, found: dict[str, Measurement], path: Path) -> None:
    """A case as pytest-benchmark saves it, so that gptloop.report and pytest-benchmark compare read it."""
    info = pytest_benchmark_generate_machine_info() | {"gptloop": machine_facts(plan)}
    record = {
        "machine_info": info,
        "commit_info": get_commit_info(),
        "benchmarks": [benchmark(case, name, measured) for name, measured in found.items()],
        "datetime": datetime.datetime.now(datetime.UTC).isoformat(),
        "version": "gptloop",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def benchmark(case: Case, name: str, measured: Measurement) -> dict[str, Any]:
    """One contender's entry."""
    assert isinstance(measured.parity, Parity)
    stats = Stats()
    for round_s in measured.rounds_s:
        stats.update(round_s)
    fullname = f"test_generate[{case.group.replace(' ', '-')}-{name}]"
    return {
        "group": case.group,
        "name": fullname,
        "fullname": f"benchmarks/test_speed.py::{fullname}",
        "params": None,
        "param": None,
        "options": {},
        "extra_info": extra_info(case, name, measured, measured.parity),
        "stats": stats.as_dict() | {"data": measured.rounds_s, "iterations": 1},
    }


def render(reports: Path) -> None:
    """Summary and charts."""
    if (code := report([str(reports)])) != 0:
        raise RuntimeError(f"gptloop.report ended with {code}")
