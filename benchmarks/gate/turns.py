"""Two trees side by side: pairs of fresh processes, one per tree, that take turns call by call.

Each process has its tree's own `gptloop`, exported file and session, and rests while another is timed; so drift of the
machine meets both sides alike, and what a fresh process does to its times is drawn anew with every pair. The PyTorch
loop of the working tree takes a turn in each round, in a third process, as the control: no change touches it.
Knows processes and files; nothing of verdicts.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.cases import BASELINE, CPU_GRID, Workload
from benchmarks.contenders import Tokens, arguments, prompt_ids
from gptloop import TorchLoop
from gptloop.checkpoint.seeded import random_model
from gptloop.reference.evaluate import evaluate
from gptloop.reference.parity import Judge, ParityError, check_quality
from gptloop.runtime.request import check_request

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "benchmarks" / "timing" / "turn_worker.py"
PRECISIONS = {"onnx": "fp32", "onnx_int8": "int8"}
SIDES = ("base", "change")
WARM_CALLS = 1  # after the one that loading makes

Say = Callable[[str], None]
Arms = Mapping[str, tuple[str, float]]

# What is timed in a round: a side, and by which fraction its calls are made slower.
TWO_SIDES: Arms = {"base": ("base", 0.0), "change": ("change", 0.0)}


@dataclass(frozen=True)
class GatedCase:
    """A case of the grid and one contender of it."""

    name: str
    size: str
    workload: Workload
    contender: str


@dataclass(frozen=True)
class Work:
    """What a comparison measures, and with what.

    Attributes:
        cases: The gated ones.
        control: The PyTorch loop's case.
        rounds: Turns of each arm in each case and pair.
        device: "cpu" or "cuda".
        threads: Threads of a product.
        smoke: Tiny models in place of the published sizes: the command is tried, the times mean nothing.
    """

    cases: Sequence[GatedCase]
    control: GatedCase
    rounds: int
    device: str
    threads: int
    smoke: bool


class Files:
    """Checkpoints, and what each side's tree exports from them.

    Args:
        folder: Where they are made.
        trees: The root of each side's tree, by its name in `SIDES`.
    """

    def __init__(self, folder: Path, trees: Mapping[str, Path]):
        self.folder, self.trees = folder, trees

    def checkpoint(self, size: str) -> Path:
        return self.folder / size

    def exported(self, side: str, case: GatedCase) -> Path:
        return self.folder / side / f"{case.size}-{PRECISIONS[case.contender]}.onnx"


def gated_case(name: str) -> GatedCase:
    """A case of the grid by its name in the budget file, "SIZE WORKLOAD CONTENDER".

    Raises:
        ValueError: If the grid does not hold it, or the contender is no exported file.
    """
    group, _, contender = name.rpartition(" ")
    found = next((case for case in CPU_GRID if case.group == group), None)
    if found is None or contender not in (BASELINE, *PRECISIONS):
        groups = ", ".join(case.group for case in CPU_GRID)
        raise ValueError(f"cannot gate {name!r}: expected one of {groups}, then {' or '.join(PRECISIONS)}")
    return GatedCase(name, found.size, found.workload, contender)


CONTROL = gated_case(f"{CPU_GRID[0].group} {BASELINE}")  # the shortest


class Process:
    """A `benchmarks.timing.turn_worker` of one tree.

    Raises:
        RuntimeError: If it ends before it has answered, with what it said.
    """

    def __init__(self, tree: Path):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (`close` closes it)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],  # -P: the worker's own folder is not the tree's
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
        )

    def send(self, do: str, **request: Any) -> None:
        """Send a request; processes may be at work on theirs at the same time."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `receive` says why
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """The answer to the oldest request without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"a measuring process ended with {code}:\n{self._errors.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.send(do, **request)
        return self.receive()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()
        self._errors.close()


@contextlib.contextmanager
def processes(trees: Mapping[str, Path]) -> Iterator[dict[str, Process]]:
    """A fresh process of each tree, ended on leaving."""
    started = {name: Process(tree) for name, tree in trees.items()}
    try:
        for process in started.values():
            process.send("hello")
        for name, process in started.items():
            answer = process.receive()
            if not Path(answer.get("gptloop", "")).resolve().is_relative_to(trees[name].resolve()):
                raise RuntimeError(f"{name}: gptloop of {trees[name]} was expected, got {answer}")
        yield started
    finally:
        for process in started.values():
            process.close()


def prepare(files: Files, work: Work, say: Say) -> dict[str, str]:
    """Make the checkpoints, let each tree export them, and compare tokens: no timing without parity.

    Returns:
        Cases that cannot be measured, by name, and why.
    """
    for size in sorted({case.size for case in (*work.cases, work.control)}):
        say(f"{size}: seeded random weights{', tiny' if work.smoke else ''}")
        (_tiny_model() if work.smoke else random_model(size)).save_pretrained(files.checkpoint(size))
    missing: dict[str, str] = {}
    tokens: dict[str, dict[str, Tokens]] = {}
    with processes(files.trees) as started:
        for side, process in started.items():
            tokens[side] = {}
            for case in work.cases:
                say(f"{side} exports and tries {case.name}")
                answer = _export(process, files, side, case) or _load(process, files, side, case, work)
                if "error" in answer:
                    missing[case.name] = f"the {side}'s tree cannot run it: {answer['error']}"
                else:
                    tokens[side][case.name] = np.array(answer["tokens"])
    for case in work.cases:
        if case.name not in missing and (reason := _disparity(files, case, tokens, work.device)):
            missing[case.name] = reason
    return missing


def measure_pair(files: Files, work: Work, arms: Arms) -> dict[str, Any]:
    """One pair of fresh processes and the control's, in turns.

    Returns:
        For JSON: `cases`, seconds by case and arm, entry i of every arm measured in round i; `added_s`, the part of
        them that was added on purpose; `control_s`, the control's; `rest_s`, the longest spinning after a call.
    """
    record: dict[str, Any] = {"started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    seconds: dict[str, dict[str, list[float]]] = {case.name: {arm: [] for arm in arms} for case in work.cases}
    slowed = [arm for arm, (_, slower) in arms.items() if slower]
    added: dict[str, dict[str, list[float]]] = {case.name: {arm: [] for arm in slowed} for case in work.cases}
    control: list[float] = []
    rests: list[float] = []

    def turn(process: Process, case: GatedCase, slower: float = 0.0) -> dict[str, float]:
        answer = process.ask("turn", key=case.name, slower=slower)
        if "error" in answer:
            raise RuntimeError(f"{case.name} failed while it was timed: {answer['error']}")
        rests.append(answer["busy_s"])
        return answer

    with processes({**files.trees, "control": ROOT}) as started:
        loads = [(started[side], side, case) for case in work.cases for side in files.trees]
        loads.append((started["control"], "control", work.control))
        for process, side, case in loads:
            _send_load(process, files, side, case, work)
        for process, side, case in loads:
            if "error" in (answer := process.receive()):
                raise RuntimeError(f"{case.name} of {side} cannot be loaded: {answer['error']}")
        for process, _, case in loads:
            for _ in range(WARM_CALLS):
                turn(process, case)
        for round_ in range(work.rounds):
            control.append(turn(started["control"], work.control)["seconds"])
            for case in work.cases:
                order = list(arms.items())
                for arm, (side, slower) in order if round_ % 2 == 0 else reversed(order):
                    answer = turn(started[side], case, slower)
                    seconds[case.name][arm].append(answer["seconds"])
                    if slower:
                        added[case.name][arm].append(answer["added_s"])
    return record | {"cases": seconds, "added_s": added, "control_s": control, "rest_s": max(rests)}


def commit_info(tree: Path) -> dict[str, Any]:
    """Which revision a tree is at, and whether it was changed since."""
    changed = git(tree, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)reports")
    return {"id": git(tree, "rev-parse", "HEAD"), "dirty": bool(changed)}


def git(tree: Path, *arguments: str) -> str:
    """Run git in a tree.

    Raises:
        RuntimeError: If git fails, with what it said.
    """
    done = subprocess.run(["git", "-C", str(tree), *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def _export(process: Process, files: Files, side: str, case: GatedCase) -> dict[str, Any]:
    """Nothing if it went well."""
    path = files.exported(side, case)
    if path.exists():
        return {}
    path.parent.mkdir(exist_ok=True)
    checkpoint = str(files.checkpoint(case.size))
    return process.ask("export", checkpoint=checkpoint, path=str(path), precision=PRECISIONS[case.contender])


def _load(process: Process, files: Files, side: str, case: GatedCase, work: Work) -> dict[str, Any]:
    _send_load(process, files, side, case, work)
    return process.receive()


def _send_load(process: Process, files: Files, side: str, case: GatedCase, work: Work) -> None:
    torch = case.contender == BASELINE
    process.send(
        "load",
        key=case.name,
        path=str(files.checkpoint(case.size) if torch else files.exported(side, case)),
        torch=torch,
        device=work.device,
        threads=work.threads,
        ids=_ids(files, case).tolist(),
        arguments=arguments(case.workload, case.workload.max_new_tokens, greedy=False),
    )


def _ids(files: Files, case: GatedCase) -> Tokens:
    return prompt_ids(case.workload, GPT2Config.from_pretrained(files.checkpoint(case.size)).vocab_size)


def _disparity(files: Files, case: GatedCase, tokens: Mapping[str, Mapping[str, Tokens]], device: str) -> str | None:
    """Why a side's tokens do not allow it to be timed, if so.

    At fp32 both sides have the tokens of the working tree's PyTorch loop. An int8 graph may have its own: the change's
    is asked for the quality that the suite asks for; the base's passed that when it was the change.
    """
    checkpoint, ids = files.checkpoint(case.size), _ids(files, case)
    call = arguments(case.workload, case.workload.max_new_tokens, greedy=False)
    expected = TorchLoop(checkpoint, device=device).generate(ids, **call)
    side = "change"
    try:
        if PRECISIONS[case.contender] == "int8":
            text = np.array([*ids[0], *expected[0]])
            check_quality(evaluate(files.exported("change", case), checkpoint, text), "int8")
        else:
            request = check_request(GPT2Config.from_pretrained(checkpoint), ids, **call)
            for side in SIDES:
                Judge(checkpoint).check(request, expected, tokens[side][case.name])
    except ParityError as error:
        return f"the {side} generates other tokens than the PyTorch loop, so it has no time: {error}"
    return None


def _tiny_model() -> GPT2LMHeadModel:
    import torch  # noqa: PLC0415

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 32, "n_positions": 72, "vocab_size": 257}
        config = GPT2Config.from_dict({**sizes, "bos_token_id": None, "eos_token_id": None})
        return GPT2LMHeadModel(config).eval()
