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
import contextlib
import functools
import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from transformers import GPT2Config

from benchmarks.cases import Case
from benchmarks.command.ending import run
from benchmarks.command.scratch import scratch
from benchmarks.gpu import checks
from benchmarks.gpu.plan import Plan, Sizes, needs_s, rehearsal
from benchmarks.gpu.saved_run import machine_facts, save_run
from benchmarks.gpu.stages import Stages, say
from benchmarks.machine import cuda
from benchmarks.measuring.measure import measure
from gptloop.console import one_line
from gptloop.ending import Parser
from gptloop.report import write_report
from gptloop.runtime.session import open_session

BUDGET_S = 600.0


def main(options: Sequence[str] | None = None) -> int:
    """The command."""
    return run("benchmarks.gpu", lambda: _measure(_parser().parse_args(options)))


def _measure(chosen: argparse.Namespace) -> int:
    if not chosen.rehearse and (reason := no_gpu()):
        raise RuntimeError(f"no GPU to measure: {reason}")
    plan = rehearsal() if chosen.rehearse else Plan()
    if chosen.rehearse:
        torch.set_num_threads(1)  # a tiny model gains nothing from a second one
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "profiles").mkdir(exist_ok=True)
    with scratch("gpu") as folder:
        return run_all(plan, Stages(chosen.output, chosen.budget_s), Sizes(folder))


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmarks.gpu", description="all measurements that need a GPU")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where everything is written")
    help_ = f"seconds for all stages (default: {BUDGET_S:.0f})"
    parser.add_argument("--budget-s", type=seconds, default=BUDGET_S, metavar="S", help=help_)
    parser.add_argument("--rehearse", action="store_true", help="every stage on the CPU with a tiny model")
    return parser


def seconds(text: str) -> float:
    """An argument's type: a finite time above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"expected seconds above 0, got {one_line(text, 40)!r}")


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


def facts(plan: Plan) -> dict[str, Any]:
    """Hardware and versions, and what nvidia-smi says."""
    smi = shutil.which("nvidia-smi")
    said = subprocess.run([smi], check=False, capture_output=True, text=True).stdout if smi else ""
    return {**machine_facts(plan.device), "onnxruntime_providers": ort.get_available_providers(), "nvidia_smi": said}


def speeds(plan: Plan) -> dict[str, Any]:
    """The machine's bandwidth, and its rates of matrix products."""
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
        save_run(plan.device, case, passed, path)
    not_passed = {name: m.absent or str(m.parity) for name, m in found.items() if not m.passed}
    medians = {name: float(np.median(m.rounds_s)) for name, m in passed.items()}
    baseline = medians.get("torch")
    speedups = {name: baseline / median for name, median in medians.items()} if baseline else {}
    return {"median_s": medians, "speedup_over_torch": speedups, "not_passed": not_passed}


def render(reports: Path) -> None:
    """Summary and charts."""
    write_report(reports)
