"""The timed part: interleaved rounds of a case's contenders, of what bounds them, and of their first tokens.

Knows contenders as calls; whether their tokens are right was decided before.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping

from benchmarks.contenders import KINDS, Contender, Tokens
from benchmarks.contenders.apart import Apart
from benchmarks.machine.cores import CorePass, core_pass
from benchmarks.machine.cuda_trace import trace_steps
from benchmarks.measuring.ceiling import Ceiling
from benchmarks.measuring.measurement import Measurement, Setting
from benchmarks.timing.clocks import interleave
from benchmarks.timing.turn_worker import rest
from benchmarks.workloads import Workload

EARLY_CALLS = 3  # in turn, of each round: they take a small part of the whole call's time, and differ more

Arms = Mapping[str, Callable[[], object]]


def time_rounds(
    setting: Setting,
    loaded: Mapping[str, Contender],
    results: Mapping[str, Measurement],
    ceiling: Ceiling | None = None,
) -> None:
    """Time the whole call, then the call for one token, and write the rounds into the results.

    Args:
        setting: The case.
        loaded: Contenders that passed their parity check.
        results: Of the same names.
        ceiling: What is timed beside them.
    """
    new_tokens = setting.case.workload.max_new_tokens
    # The parity check was everybody's warm-up, but for those whose greedy call was another one.
    warm = [name for name in loaded if KINDS[name].parity != "greedy"]
    workloads = {name: results[name].called(setting.case.workload) for name in loaded}
    whole = _whole_calls(setting, loaded, workloads)
    first: dict[str, Callable[[], object]] = {
        name: _call(setting, one, workloads[name], 1) for name, one in loaded.items()
    }
    if ceiling:
        whole |= ceiling.whole()
        first |= ceiling.first()
    times, cores = _interleaved(setting, loaded, new_tokens, whole, warm)
    ttft, _ = _interleaved(setting, loaded, 1, first)
    for name in loaded:
        result = results[name]
        result.rounds_s, result.ttft_rounds_s, result.cores = times[name], ttft[name], cores[name]
        result.early_rounds_s = [calls_s / EARLY_CALLS for calls_s in times.get(_early_arm(name), [])]
        result.lower_bounds = ceiling.lower_bounds(name, times, ttft) if ceiling else {}
        setting.say(f"{name}: median {statistics.median(result.rounds_s):.3f} s")


def trace_step(setting: Setting, loaded: Mapping[str, Contender], results: Mapping[str, Measurement]) -> None:
    """Count what a decode step does, after all was timed: a profiler takes time."""
    workload = setting.case.workload
    for name, contender in loaded.items():
        setting.say(f"{name}: a decode step, traced")

        def some_tokens(new_tokens: int, name: str = name, contender: Contender = contender) -> Tokens:
            return _call(setting, contender, results[name].called(workload), new_tokens)()

        # These two calls are what the rounds have timed: a contender with a graph for each length has both.
        results[name].step, _ = trace_steps(some_tokens, 1, workload.max_new_tokens)


def _whole_calls(
    setting: Setting, loaded: Mapping[str, Contender], workloads: Mapping[str, Workload]
) -> dict[str, Callable[[], object]]:
    """Each contender's whole call, and its early tokens right after it where the case asks for them."""
    calls: dict[str, Callable[[], object]] = {}
    for name, contender in loaded.items():
        workload = workloads[name]
        calls[name] = _call(setting, contender, workload, workload.max_new_tokens)
        if early_tokens := setting.case.early_tokens:
            calls[_early_arm(name)] = _repeated(_call(setting, contender, workload, early_tokens), EARLY_CALLS)
    return calls


def _interleaved(
    setting: Setting, loaded: Mapping[str, Contender], new_tokens: int, arms: Arms, warm: Collection[str] = ()
) -> tuple[dict[str, list[float]], dict[str, list[tuple[CorePass, CorePass]]]]:
    """Seconds of each arm, and where the cores were around it, once all arms but the warm ones were called."""

    def all_rest() -> None:
        rest()
        for contender in loaded.values():
            if isinstance(contender, Apart):
                contender.rest()

    for name, call in arms.items():
        if name not in warm:
            call()
    rounds = setting.case.rounds
    setting.say(f"{rounds} interleaved rounds of {new_tokens} new tokens: {', '.join(arms)}")
    return interleave(arms, rounds, core_pass, all_rest)


def _call(setting: Setting, contender: Contender, workload: Workload, new_tokens: int) -> Callable[[], Tokens]:
    return lambda: contender.generate(setting.ids, workload, max_new_tokens=new_tokens)


def _repeated(call: Callable[[], object], times: int) -> Callable[[], None]:
    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def _early_arm(name: str) -> str:
    return f"{name}'s first tokens"
