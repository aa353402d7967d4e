"""Timing a file within a budget: opening it, one call of each workload, then interleaved rounds of all of them.

Knows the runtime and the clock; not what the numbers are called, nor how they are shown.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnxruntime as ort

from gptloop import names
from gptloop.bench.arm import Arm, Budget
from gptloop.bench.memory import MemoryRead, peak_memory_bytes, step_weight_bytes, usable_cores
from gptloop.bench.result import LeftOut, Machine, Result, Timing, spread
from gptloop.bench.workload import workloads
from gptloop.model_file import read_model
from gptloop.quantities import duration_text
from gptloop.runtime.onnx_loop import OnnxLoop
from gptloop.values import number, whole_number

BUDGET_S, BUDGET_MIN_S = 60.0, 3.0
SIZE_MAX = 8192  # prompts are drawn before they are checked
SIZES = ("prompts", "num_return_sequences", "prompt_len", "max_new_tokens")
MOST_ROUNDS = 15
MEMORY_S = 2.0  # to get a buffer and to find out how to read it
SLOWER = 1.2  # a round may take so much longer than the longest one before it

Say = Callable[[str], object]


def bench(
    path: str | Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    budget_s: float = BUDGET_S,
    say: Say = lambda _: None,
    prompts: int | None = None,
    num_return_sequences: int | None = None,
    prompt_len: int | None = None,
    max_new_tokens: int | None = None,
) -> Result:
    """Measure how fast a model file generates here, within a budget.

    Args:
        path: As `gptloop.OnnxLoop`; likewise `device` and `threads`.
        device: Likewise.
        threads: Likewise.
        budget_s: Seconds that it may take. A workload that does not fit in is left out.
        say: Told what is being done.
        prompts: As `gptloop.bench.workload.workloads`; likewise the other sizes.
        num_return_sequences: Likewise.
        prompt_len: Likewise.
        max_new_tokens: Likewise.

    Raises:
        FileNotFoundError: As `gptloop.OnnxLoop`.
        ValueError: Likewise; or if a size or the budget is out of its bounds, the model cannot do a call that was asked
            for, or the budget has no room for any workload.
    """
    budget = _budget(budget_s)
    given = _given(prompts, num_return_sequences, prompt_len, max_new_tokens)
    say(f"opening {path}")
    start = time.perf_counter()
    loop = OnnxLoop(path, device=device, threads=threads)
    load_s = time.perf_counter() - start
    step_bytes = step_weight_bytes(read_model(loop.path))
    arms = _arms(loop, given)
    fitting, left_out = _fitting(arms, budget, say)
    peak = peak_memory_bytes()  # before there is a buffer
    read_threads = threads or usable_cores()
    memory = MemoryRead(read_threads) if loop.device == "cpu" else None
    _rounds(fitting, memory, budget, say)
    bandwidth = spread([1 / byte_s for byte_s in memory.rounds_s]) if memory else None
    return Result(
        file=loop.path.name,
        facts=_facts(loop.metadata, loop.flavor),
        machine=Machine(loop.device, threads, ort.__version__, bandwidth, read_threads),
        load_s=load_s,
        first_ttft_s=fitting[0].first_s[0],
        peak_memory_bytes=peak,
        step_weight_bytes=step_bytes,
        timings=[Timing(arm.workload, arm.rounds_s, arm.ttft_rounds_s) for arm in fitting],
        left_out=left_out,
        budget_s=budget.seconds,
        elapsed_s=budget.used_s,
    )


def _budget(budget_s: float) -> Budget:
    most = threading.TIMEOUT_MAX
    within = f"from {BUDGET_MIN_S:g} to {most:.0f} seconds"
    return Budget(number("budget_s", budget_s, within, lambda x: BUDGET_MIN_S <= x <= most))


def _given(*sizes: int | None) -> dict[str, int]:
    """Those of a workload's sizes that were asked for, by name, checked."""
    named = zip(SIZES, sizes, strict=True)
    return {name: whole_number(name, size, 1, SIZE_MAX) for name, size in named if size is not None}


def _arms(loop: OnnxLoop, given: Mapping[str, int]) -> list[Arm]:
    if names.META_MAX_NEW_TOKENS in loop.metadata:
        raise ValueError(f"flavor {loop.flavor!r} has a fixed number of new tokens, and so no TTFT: {loop.path}")
    arms = [Arm(loop, workload) for workload in workloads(loop.bounds.n_positions, **given)]
    if given:  # what was asked for is not left out
        for arm in arms:
            arm.check()
    return arms


def _fitting(arms: Sequence[Arm], budget: Budget, say: Say) -> tuple[list[Arm], list[LeftOut]]:
    """The first calls: which workloads there is time for, and of the others why not.

    Each may take half of what is left but for a round of those before it, so that it can have a round, too.

    Raises:
        ValueError: If there is none.
    """
    fitting: list[Arm] = []
    left_out: list[LeftOut] = []
    for arm in arms:
        say(f"the first calls of {arm.workload.title}")
        taken_s = MEMORY_S + SLOWER * sum(sum(other.first_s) for other in fitting)
        share_s = max(0.0, (budget.left_s - taken_s) / (1 + SLOWER))
        try:
            arm.check()
            arm.warm(share_s)
        except ValueError as error:
            left_out.append(LeftOut(arm.workload, str(error)))
        except TimeoutError:
            share = f"{duration_text(share_s)}, its share of" if share_s else "what is left of"
            why = f"the first calls take longer than {share} budget_s {budget.seconds:g}"
            left_out.append(LeftOut(arm.workload, why))
        else:
            fitting.append(arm)
    if not fitting:
        raise ValueError(f"{left_out[0].workload.title}: {left_out[0].why}")
    return fitting, left_out


def _rounds(arms: Sequence[Arm], memory: MemoryRead | None, budget: Budget, say: Say) -> None:
    """Time all once, then forwards and backwards in turns for as long as the budget has room for another round."""
    tasks: list[Callable[[], None]] = [*(arm.round for arm in arms), *([memory] if memory else [])]
    longest_s = 0.0
    for number_ in range(MOST_ROUNDS):
        if number_ and SLOWER * longest_s > budget.left_s:
            break
        say(f"round {number_ + 1}")
        start = budget.used_s
        for task in tasks if number_ % 2 == 0 else reversed(tasks):
            task()
        longest_s = max(longest_s, budget.used_s - start)


def _facts(metadata: Mapping[str, str], flavor: str) -> dict[str, str]:
    keys = {"source": names.META_SOURCE, "weights": names.META_WEIGHTS, "precision": names.META_PRECISION}
    return {name: metadata[key] for name, key in keys.items()} | {"flavor": flavor}
