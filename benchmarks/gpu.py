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
import datetime
import functools
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
from pytest_benchmark.stats import Stats
from pytest_benchmark.utils import get_commit_info
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks import cuda_machine, machine
from benchmarks.cases import GPU_GRID, Case, Workload
from benchmarks.contenders import Contender, Files, Tokens, arguments, load, prepare, prompt_ids
from benchmarks.cuda_trace import Event, kernel_summary, trace_steps
from benchmarks.measure import Measurement, measure
from benchmarks.test_speed import extra_info
from gptloop import OnnxLoop, TorchLoop
from gptloop.checkpoint import TORCH_TYPES, random_model
from gptloop.lean_call import lean_feeds
from gptloop.onnx_loop import feeds
from gptloop.parity import Judge, Parity, ParityError, check_closeness
from gptloop.report.__main__ import main as report
from gptloop.request import check_request
from gptloop.session import CUDA, open_session

BUDGET_S = 600.0
# Seconds to make, load and measure a case of a size, and to get a contender ready; guesses.
NEEDS_S = {"gpt2": 40, "gpt2-medium": 60, "gpt2-large": 100, "tiny": 1}
READY_S = {"torch_compiled": 40, "onnx_unrolled": 60}
UNROLLED_TOKENS = 12  # where what is looked at does not depend on their number
ONNX = ("onnx", "onnx_lean", "onnx_fixed", "onnx_fused", "onnx_unrolled")
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
        speed_sizes: For cuda_machine.
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


class Stages:
    """Runs stages within the budget, and keeps the record of them on disk.

    Args:
        folder: Where the record and the stages' results go.
        budget_s: Seconds for all of them.
    """

    def __init__(self, folder: Path, budget_s: float):
        self.folder, self._budget_s = folder, budget_s
        self._start = time.monotonic()
        self._records: list[dict[str, Any]] = []

    def run(self, name: str, needs_s: float, stage: Callable[[], Any]) -> None:
        """Run a stage, unless what it needs is more than what is left; write what it returns, if anything."""
        elapsed_s = time.monotonic() - self._start
        if elapsed_s + needs_s > self._budget_s:
            left_s = self._budget_s - elapsed_s
            self._note(name, "skipped", f"{left_s:.0f} s of the budget were left, it needs about {needs_s:.0f} s", 0.0)
            return
        say(f"== {name} ==")
        outcome, note = "done", ""
        try:
            if (result := stage()) is not None:
                write_json(self.folder / f"{name}.json", result)
        except Exception as error:  # what one stage meets must not take the others' measurements
            traceback.print_exc()
            outcome, note = "failed", f"{type(error).__name__}: {error}"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._note(name, outcome, note, time.monotonic() - self._start - elapsed_s)

    @property
    def failed(self) -> list[str]:
        """Names of the stages that failed."""
        return [record["stage"] for record in self._records if record["outcome"] == "failed"]

    def _note(self, name: str, outcome: str, note: str, seconds: float) -> None:
        say(f"{name}: {outcome} after {seconds:.0f} s {note}")
        self._records.append({"stage": name, "outcome": outcome, "note": note, "seconds": round(seconds, 1)})
        write_json(self.folder / "stages.json", self._records)


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
    reports, profiles = stages.folder / "reports", stages.folder / "profiles"
    stages.run("facts", 5, lambda: facts(plan))
    stages.run("correctness", needs_s(plan.cases[0]), lambda: correctness(plan, sizes(plan.size), profiles))
    stages.run("trace", needs_s(plan.cases[0]), lambda: trace(plan, sizes(plan.size), profiles))
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


def opened(name: str, files: Files, plan: Plan) -> Contender:
    """A contender, its files made where they are missing."""
    prepare(name, files)
    return load(name, files, device=plan.device, threads=torch.get_num_threads())


def correctness(plan: Plan, files: Files, profiles: Path) -> dict[str, Any]:
    """fp32 token by token against torch on the same device, fp16 within its bounds, and nodes where they should be.

    Raises:
        ParityError: If anything is wrong, after all has been looked at and written down.
    """
    found: dict[str, Any] = {}
    for precision in ("fp32", "fp16"):
        found |= correctness_in(precision, plan, replace(files, precision=precision), profiles)
        write_json(profiles.parent / "correctness.json", found)
    wrong = [name for name, what in found.items() if "error" in what]
    if plan.device == "cuda":
        wrong += [name for name, what in found.items() if "nodes" in name and CUDA not in what]
    if wrong:
        raise ParityError(f"wrong: {', '.join(wrong)}")
    return found


def correctness_in(precision: str, plan: Plan, files: Files, profiles: Path) -> dict[str, Any]:
    """The same in one precision."""
    w = plan.workload
    config = GPT2Config.from_pretrained(files.checkpoint)
    ids, call = prompt_ids(w, config.vocab_size), arguments(w, w.max_new_tokens, greedy=False)
    oracle = TorchLoop(files.checkpoint, device=plan.device, dtype=TORCH_TYPES[precision])
    judge = Judge(files.checkpoint, precision, plan.device if precision != "fp32" else "cpu")
    expected = oracle.generate(ids, **call, return_logprobs=True)
    found: dict[str, Any] = {}
    for name in ONNX:
        say(f"{precision}: {name}")
        # The unrolled file's size grows with its tokens; a call's first tokens do not depend on how many it asks for.
        new_tokens = min(w.max_new_tokens, UNROLLED_TOKENS) if name == "onnx_unrolled" else w.max_new_tokens
        request = check_request(config, ids, **(call | {"max_new_tokens": new_tokens}))
        tokens = opened(name, files, plan).generate(ids, w, max_new_tokens=new_tokens)
        wanted = expected.tokens[:, :new_tokens]
        found[f"{precision} {name}"] = outcome(functools.partial(judge.check, request, wanted, tokens))
    request = check_request(config, ids, **call)
    for name, path in (("onnx", files.exported(precision)), ("onnx_lean", files.flavored(f"{precision}-lean"))):
        counts = providers_of_nodes(path, plan.device, request, profiles)
        write_text(profiles / f"nodes-{precision}-{name}.txt", nodes_text(counts))
        by_provider = Counter(provider for provider, _ in counts.elements())
        found[f"{precision} {name} nodes by provider"] = dict(by_provider)
    if precision != "fp32":
        same = OnnxLoop(files.exported(precision), device=plan.device).generate(ids, **call, return_logprobs=True)
        check = functools.partial(check_closeness, expected, same, precision)
        found[f"{precision} log-probabilities"] = outcome(check)
    return found


def outcome(check: Callable[[], Any]) -> dict[str, Any]:
    """What a parity check found, or why it failed."""
    try:
        result = check()
    except ParityError as error:
        return {"error": str(error)}
    return asdict(result)


def providers_of_nodes(path: Path, device: str, request: Any, folder: Path) -> Counter[tuple[str, str]]:
    """How often a node of each provider and operator ran in one call, from ONNX Runtime's own profile."""
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "ort")
    session = open_session(path, device=device, options=options)
    lean = len(session.get_inputs()) < len(feeds(request))
    session.run(["sequences"], lean_feeds(request, "lean", None) if lean else feeds(request))
    profile = Path(session.end_profiling())
    events = json.loads(profile.read_text())
    profile.unlink()
    return count_nodes(events)


def count_nodes(events: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Kernels run, by provider and operator, of an ONNX Runtime profile's events."""
    runs = (event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"))
    return Counter((event["args"]["provider"], event["args"]["op_name"]) for event in runs)


def nodes_text(counts: Counter[tuple[str, str]]) -> str:
    """The counts as lines."""
    return "".join(f"{n:>8}  {provider:24} {op}\n" for (provider, op), n in counts.most_common())


def trace(plan: Plan, files: Files, profiles: Path) -> dict[str, Any]:
    """One decode step of each loop, in fp16: kernels, copies, synchronisations."""
    files, w = replace(files, precision="fp16"), plan.workload
    ids = prompt_ids(w, GPT2Config.from_pretrained(files.checkpoint).vocab_size)
    found: dict[str, Any] = {}
    for name in ("torch", *ONNX):
        say(f"trace of {name}")
        contender = opened(name, files, plan)
        many = min(w.max_new_tokens, UNROLLED_TOKENS)
        counts, events = trace_steps(functools.partial(some_tokens, contender, ids, w), many // 3, many)
        found[name] = counts.to_dict()
        write_text(profiles / f"kernels-{name}.txt", summary(counts.to_dict(), events, many))
        write_json(profiles.parent / "trace.json", found)
        del contender
    return found


def some_tokens(contender: Contender, ids: Tokens, workload: Workload, new_tokens: int) -> Tokens:
    """The workload with another number of new tokens."""
    return contender.generate(ids, workload, max_new_tokens=new_tokens)


def summary(counts: dict[str, float], events: list[Event], new_tokens: int) -> str:
    """A step's counts, then the kernels of the longer call."""
    lines = [f"{value:>12.6g}  {name} per step" for name, value in counts.items()]
    return "\n".join([*lines, "", f"in the call of {new_tokens} new tokens:", kernel_summary(events)])


def speeds(plan: Plan) -> dict[str, Any]:
    """The machine's bandwidth and rates, and the floor of each size under the published workload."""
    device, sizes = plan.device, plan.speed_sizes
    copy_bytes = sizes.get("copy_bytes", cuda_machine.COPY_BYTES)
    rates = {p: cuda_machine.flops_per_s(p, device, sizes.get("side", cuda_machine.SIDE)) for p in ("fp32", "fp16")}
    return {"bandwidth_bytes_per_s": cuda_machine.bandwidth_bytes_per_s(device, copy_bytes), "flops_per_s": rates}


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


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, content: str) -> None:
    """Whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(content, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            unfinished.unlink()


_START = time.monotonic()


def say(text: str) -> None:
    """One line of progress."""
    print(f"[{time.monotonic() - _START:6.1f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
