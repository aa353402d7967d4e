"""Measuring one case: parity first, then interleaved rounds, then each contender alone in a process of its own.

Knows the order of the parts; nothing of pytest or of how a run is stored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import time
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.cases import BASELINE, Case
from benchmarks.contenders import KINDS, AbsentError, Contender, Files, load, prepare, prompt_ids
from benchmarks.contenders.apart import Apart
from benchmarks.machine import cuda
from benchmarks.measuring import gpu_ceiling
from benchmarks.measuring.alone import run_alone
from benchmarks.measuring.ceiling import Ceiling
from benchmarks.measuring.measurement import Measurement, Say, Setting
from benchmarks.measuring.parity import check_parity
from benchmarks.measuring.rounds import time_rounds, trace_step
from gptloop.runtime.huge_pages import on_huge_pages


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
    wanted = {BASELINE, *names}
    setting = Setting(case, files, config, prompt_ids(case.workload, config.vocab_size), device, threads, say)
    results = {
        name: Measurement(device, files.weights, precision=files.precision_of(name))
        for name in case.runs
        if name in wanted
    }
    _measure_together(setting, results)
    gc.collect()  # what was loaded leaves the memory to those that follow
    for name, result in results.items() if alone else ():
        if result.passed:
            say(f"{name} alone in a process of its own: peak memory, {case.alone_rounds} timed rounds")
            called = dataclasses.replace(case, workload=result.called(case.workload))
            result.alone = run_alone(called, name, files, device=device, threads=threads)
    return results


def _measure_together(setting: Setting, results: Mapping[str, Measurement]) -> None:
    """All that is measured in this process, into the results."""
    with contextlib.ExitStack() as stack:
        loaded = _load(setting, results, stack)
        check_parity(setting, loaded, results)
        passed = {name: contender for name, contender in loaded.items() if results[name].passed}
        time_rounds(setting, passed, results, _ceiling(setting, passed))
        if setting.device == "cuda" and setting.case.ceiling:
            setting.say("the GPU's bandwidth and rate")
            for name in passed:
                rounds, precision = len(results[name].rounds_s), results[name].precision
                bounds = gpu_ceiling.lower_bounds(setting.config, setting.case.workload, precision, rounds)
                results[name].lower_bounds = bounds
        if setting.case.traced:
            trace_step(setting, passed, results)


def _load(setting: Setting, results: Mapping[str, Measurement], stack: contextlib.ExitStack) -> dict[str, Contender]:
    """The contenders that can run here; the others' results say why not. The stack ends those apart."""
    loaded: dict[str, Contender] = {}
    for name, result in results.items():
        setting.say(f"loading {name}")
        try:
            _check_ends(setting, name)
            prepare(name, setting.files)
            with on_huge_pages(wanted=setting.device == "cpu"):  # for everybody what OnnxLoop does for itself
                start, used_bytes = time.perf_counter(), cuda.used_bytes(setting.device)
                loaded[name] = load(name, setting.files, device=setting.device, threads=setting.threads)
                result.load_s = time.perf_counter() - start
                if isinstance(contender := loaded[name], Apart):
                    stack.enter_context(contender)
            result.device_bytes = cuda.growth(used_bytes, setting.device)
            result.precision = getattr(loaded[name], "precision", result.precision)
        except AbsentError as error:
            setting.say(f"{name} is absent: {error}")
            result.absent = str(error)
    return loaded


def _check_ends(setting: Setting, name: str) -> None:
    """Raise an AbsentError where nothing could make the contender's rows end after as many tokens as others'."""
    if setting.case.workload.row_ends and KINDS[name].own_numbers:
        raise AbsentError("it draws random numbers of its own, so that its rows would end elsewhere")


def _ceiling(setting: Setting, passed: Iterable[str]) -> Ceiling | None:
    """Of the exported files that the case times on the CPU, if it asks for it."""
    if setting.device != "cpu" or not setting.case.ceiling:
        return None
    files = setting.files
    own = {name: files.exported(files.precision_of(name)) for name in passed if KINDS[name].module == "onnx_loop"}
    return Ceiling(own, setting.config, setting.case.workload, setting.threads) if own else None
