"""Measuring one case: parity first, then interleaved rounds, then each contender alone in a process of its own.

Knows contenders and clocks; nothing of pytest or of how a run is stored.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.cases import BASELINE, Case, Workload
from benchmarks.ceiling import AttentionProducts, Call, Floor, MemoryRead, Products, floors
from benchmarks.contenders import KINDS, AbsentError, Contender, Files, Tokens, arguments, load, prepare, prompt_ids
from benchmarks.contenders.apart import Apart
from benchmarks.machine import cuda
from benchmarks.machine.cores import CorePass, core_pass
from benchmarks.machine.cuda_trace import Counts, trace_steps
from benchmarks.timing import interleave
from benchmarks.turn_worker import rest
from gptloop.reference.evaluate import Evaluation, compare, evaluate
from gptloop.reference.parity import Judge, Parity, ParityError, check_quality
from gptloop.runtime.huge_pages import on_huge_pages
from gptloop.runtime.request import check_request

Say = Callable[[str], None]

ATTENTION = "attention's products"
EARLY_CALLS = 3  # in turn, of each round: they take a small part of the whole call's time, and differ more


@dataclass
class Measurement:
    """What is known of one contender in one case; times in seconds, one per round.

    Attributes:
        device: "cpu" or "cuda".
        weights: "pretrained" or "random, seed S".
        load_s: From files on disk to ready, in the measuring process.
        absent: Why the contender cannot run here, if it cannot.
        check: What its parity check compared.
        parity: The outcome, or why it failed, and then there are no times.
        rounds_s: The whole call.
        ttft_rounds_s: The same call with one new token.
        early_rounds_s: The same call with the case's `early_tokens`, if it has any, next to the whole call of the same
            round: the mean of `EARLY_CALLS`.
        cores: Where the cores were right before and right after the whole call, for each round.
        floors: What the call cannot be faster than, by kind, where the case asks for it.
        step: What a decode step makes a GPU do, where the case asks for it.
        precision: In which the contender runs.
        device_bytes: By how much loading and the first call made the GPU's used memory grow; None on the CPU.
        alone: What the contender's own process printed.
    """

    device: str
    weights: str
    load_s: float = 0.0
    absent: str = ""
    check: str = "baseline"
    parity: Parity | ParityError = field(default_factory=lambda: ParityError("not checked"))
    rounds_s: list[float] = field(default_factory=list)
    ttft_rounds_s: list[float] = field(default_factory=list)
    early_rounds_s: list[float] = field(default_factory=list)
    cores: list[tuple[CorePass, CorePass]] = field(default_factory=list)
    floors: dict[str, Floor] = field(default_factory=dict)
    step: Counts | None = None
    precision: str = "fp32"
    device_bytes: int | None = None
    alone: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return isinstance(self.parity, Parity)


def measure(
    case: Case,
    names: Iterable[str],
    files: Files,
    config: Any,
    *,
    device: str,
    threads: int,
    say: Say,
    alone: bool = True,
) -> dict[str, Measurement]:
    """Measure contenders of a case against each other.

    Args:
        case: The case.
        names: Contenders wanted; the baseline is measured in any case.
        files: The size on disk.
        config: Its GPT2Config.
        device: "cpu" or "cuda".
        threads: Threads of a product, for every contender.
        say: Takes one line of progress at a time.
        alone: Whether each contender also gets a process of its own.
    """
    files = dataclasses.replace(files, precision=case.precision)
    names = [name for name in case.runs if name == BASELINE or name in set(names)]
    ids = prompt_ids(case.workload, config.vocab_size)
    loaded: dict[str, Contender] = {}
    results = {}
    for name in names:
        say(f"loading {name}")
        results[name] = Measurement(device, files.weights, precision=files.precision_of(name))
        try:
            prepare(name, files)
            with on_huge_pages(wanted=device == "cpu"):  # for everybody what OnnxLoop does for itself
                start, used_bytes = time.perf_counter(), cuda.used_bytes(device)
                loaded[name] = load(name, files, device=device, threads=threads)
                results[name].load_s = time.perf_counter() - start
            results[name].device_bytes = cuda.growth(used_bytes, device)
        except AbsentError as error:
            say(f"{name} is absent: {error}")
            results[name].absent = str(error)
    _check(case, ids, config, files, loaded, results, say, device)
    passed = {name: contender for name, contender in loaded.items() if results[name].passed}
    products = _products(case, passed, files, threads) if device == "cpu" else {}
    attention = AttentionProducts(config, case.workload, threads) if products else None
    _time(case, ids, passed, products, attention, results, say)
    if device == "cuda" and case.ceiling:
        say("the GPU's bandwidth and rate")
        for name in passed:
            rounds = len(results[name].rounds_s)
            results[name].floors = cuda.floors(config, case.workload, results[name].precision, rounds)
    if case.traced:
        _trace(case, ids, passed, results, say)
    for contender in loaded.values():
        if isinstance(contender, Apart):
            contender.close()
    loaded.clear()
    passed.clear()
    products.clear()
    attention = None
    gc.collect()
    for name in names if alone else ():
        if results[name].passed:
            say(f"{name} alone in a process of its own: peak memory, {case.alone_rounds} timed rounds")
            results[name].alone = run_alone(case, name, files, device=device, threads=threads)
    return results


def _check(
    case: Case,
    ids: Tokens,
    config: Any,
    files: Files,
    loaded: Mapping[str, Contender],
    results: Mapping[str, Measurement],
    say: Say,
    device: str,
) -> None:
    """Parity of every contender with the baseline; also everybody's warm-up."""
    judge = Judge(files.checkpoint, case.precision, device if case.precision != "fp32" else "cpu")
    expected = _Expected(loaded[BASELINE], ids, case.workload)
    for name, contender in loaded.items():
        say(f"parity of {name}")
        kind = KINDS[name]
        greedy = kind.parity == "greedy"
        used_bytes = cuda.used_bytes(device)
        found = contender.generate(ids, case.workload, max_new_tokens=case.workload.max_new_tokens, greedy=greedy)
        if growth := cuda.growth(used_bytes, device):
            results[name].device_bytes = growth + (results[name].device_bytes or 0)
        try:
            if kind.parity == "quality":
                text = [*ids[0], *expected(greedy=False)[0]]
                results[name].check = check_quality(_quality(name, contender, files, text), kind.precision)
                results[name].parity = Parity(rows=len(found), excused_rows=0)
            else:
                if name != BASELINE:
                    results[name].check = "tokens equal, greedy" if greedy else "tokens equal while sampling"
                call = arguments(case.workload, case.workload.max_new_tokens, greedy)
                request = check_request(config, ids, **(call | ({"num_return_sequences": 1} if greedy else {})))
                results[name].parity = judge.check(request, expected(greedy), found)
                if case.precision != "fp32" and kind.module == "onnx_loop":
                    text = [*ids[0], *expected(greedy=False)[0]]
                    words = check_quality(_quality(name, contender, files, text, device), case.precision)
                    results[name].check += f", but for near-ties in {case.precision}; {words}"
        except ParityError as error:
            results[name].parity = error


_qualities: dict[tuple[str, Files], Evaluation] = {}


def _quality(name: str, contender: Contender, files: Files, text: list[int], device: str = "cpu") -> Evaluation:
    """A contender's quality on the first text that is met: a size's files are scored once, not in every case."""
    if (name, files) not in _qualities:
        ids = np.array(text)
        score = getattr(contender, "score", None)
        exported = files.exported(files.precision_of(name))
        _qualities[name, files] = (
            compare(score, files.checkpoint, ids) if score else evaluate(exported, files.checkpoint, ids, device=device)
        )
    return _qualities[name, files]


class _Expected:
    """The baseline's tokens, sampled or greedy, computed once each."""

    def __init__(self, baseline: Contender, ids: Tokens, workload: Workload):
        self._baseline, self._ids, self._workload = baseline, ids, workload
        self._tokens: dict[bool, Tokens] = {}

    def __call__(self, greedy: bool) -> Tokens:
        if greedy not in self._tokens:
            tokens = self._baseline.generate(
                self._ids, self._workload, max_new_tokens=self._workload.max_new_tokens, greedy=greedy
            )
            # Greedy candidates are all the same; Hugging Face refuses to compute them.
            self._tokens[greedy] = tokens[:: self._workload.num_return_sequences] if greedy else tokens
        return self._tokens[greedy]


def _products(case: Case, passed: Iterable[str], files: Files, threads: int) -> dict[str, Products]:
    """The products of the exported files that the case times, if it asks for the ceiling."""
    own = [name for name in passed if KINDS[name].module == "onnx_loop" and case.ceiling]
    return {name: Products(files.exported(files.precision_of(name)), case.workload, threads) for name in own}


def _time(
    case: Case,
    ids: Tokens,
    loaded: Mapping[str, Contender],
    products: Mapping[str, Products],
    attention: AttentionProducts | None,
    results: Mapping[str, Measurement],
    say: Say,
) -> None:
    def arm(contender: Contender, new_tokens: int) -> Callable[[], Tokens]:
        return lambda: contender.generate(ids, case.workload, max_new_tokens=new_tokens)

    def first_tokens(contender: Contender) -> Callable[[], None]:
        call = arm(contender, case.early_tokens)

        def calls() -> None:
            for _ in range(EARLY_CALLS):
                call()

        return calls

    def rounds(
        new_tokens: int, arms: Mapping[str, Callable[[], Any]], warm: Collection[str] = ()
    ) -> tuple[dict[str, list[float]], dict[str, list[tuple[CorePass, CorePass]]]]:
        for name, call in arms.items():
            if name not in warm:
                call()
        say(f"{case.rounds} interleaved rounds of {new_tokens} new tokens: {', '.join(arms)}")
        return interleave(arms, case.rounds, core_pass, all_rest)

    def all_rest() -> None:
        rest()
        for contender in loaded.values():
            if isinstance(contender, Apart):
                contender.rest()

    memory = MemoryRead() if attention else None
    calls: dict[str, Call] = {_products_arm(name): run for name, run in products.items()}
    calls |= {ATTENTION: attention} if attention else {}
    whole: dict[str, Callable[[], Any]] = {}
    for name, contender in loaded.items():
        whole[name] = arm(contender, case.workload.max_new_tokens)
        if case.early_tokens:
            whole[_early_arm(name)] = first_tokens(contender)
    # The parity check was everybody's warm-up, but for those whose greedy call was another one.
    warm = [name for name in loaded if KINDS[name].parity != "greedy"]
    whole |= calls | ({"memory": memory} if memory else {})
    times, cores = rounds(case.workload.max_new_tokens, whole, warm)
    first: dict[str, Callable[[], Any]] = {name: arm(contender, 1) for name, contender in loaded.items()}
    first |= {name: call.prefill for name, call in calls.items()}
    ttft, _ = rounds(1, first)
    for name in loaded:
        results[name].rounds_s, results[name].ttft_rounds_s = times[name], ttft[name]
        results[name].cores = cores[name]
        results[name].early_rounds_s = [calls_s / EARLY_CALLS for calls_s in times.get(_early_arm(name), [])]
        if memory and name in products:
            own, attentions = (Floor(times[arm], ttft[arm]) for arm in (_products_arm(name), ATTENTION))
            pass_bytes, passes = products[name].pass_bytes, case.workload.max_new_tokens
            results[name].floors = floors(own, attentions, memory, pass_bytes=pass_bytes, passes=passes)
        say(f"{name}: median {statistics.median(results[name].rounds_s):.3f} s")


def _trace(
    case: Case, ids: Tokens, loaded: Mapping[str, Contender], results: Mapping[str, Measurement], say: Say
) -> None:
    """Count what a step does, after all was timed: a profiler takes time."""
    for name, contender in loaded.items():
        say(f"{name}: a decode step, traced")

        def some_tokens(new_tokens: int, contender: Contender = contender) -> Tokens:
            return contender.generate(ids, case.workload, max_new_tokens=new_tokens)

        # These two calls are what the rounds have timed: a contender with a graph for each length has both.
        results[name].step, _ = trace_steps(some_tokens, 1, case.workload.max_new_tokens)


def _products_arm(name: str) -> str:
    return f"{name} products"


def _early_arm(name: str) -> str:
    return f"{name}'s first tokens"


def run_alone(case: Case, name: str, files: Files, *, device: str, threads: int) -> dict[str, Any]:
    """What `benchmarks.alone` prints for this contender."""
    job = {
        "contender": name,
        "workload": dataclasses.asdict(case.workload),
        "rounds": case.alone_rounds,
        "files": files.to_json(),
        "device": device,
        "threads": threads,
    }
    command = [sys.executable, "-m", "benchmarks.alone", json.dumps(job)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed in a process of its own:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
