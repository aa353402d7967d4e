"""What a saved run says of a contender besides its rounds: the fields that gptloop.report reads.

Knows what was measured; not who saves it.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.cases import Case
from benchmarks.measuring.measurement import Measurement
from benchmarks.workloads import Workload
from gptloop.metrics import time_per_output_token_s, tokens_per_s
from gptloop.reference.parity import Parity

SCHEMA = 1


def extra_info(case: Case, contender: str, measured: Measurement, parity: Parity) -> dict[str, Any]:
    """What the saved run says of a contender besides its rounds; seconds and bytes."""
    w = case.workload
    total_s, ttft_s = statistics.median(measured.rounds_s), statistics.median(measured.ttft_rounds_s)
    return {
        "schema": SCHEMA,
        "size": case.size,
        "workload": w.id,
        "workload_title": w.title,
        "contender": contender,
        "precision": measured.precision,
        "weights": measured.weights,
        "device": measured.device,
        "prompts": w.prompts,
        "prompt_len": w.prompt_len,
        "num_return_sequences": w.num_return_sequences,
        "max_new_tokens": w.max_new_tokens,
        "temperature": w.temperature,
        "top_k": w.top_k,
        "ttft_rounds_s": measured.ttft_rounds_s,
        "ttft_s": ttft_s,
        "time_per_output_token_s": time_per_output_token_s(total_s, ttft_s, w.steps),
        "tokens_per_s": tokens_per_s(total_s, w.rows, w.tokens_per_row),
        "load_s": measured.alone.get("load_s", measured.load_s),
        # On a GPU, the device's; elsewhere the process's.
        "peak_memory_bytes": measured.device_bytes or measured.alone.get("peak_memory_bytes"),
        "alone_rounds_s": measured.alone.get("rounds_s", []),
        **ceiling_info(measured),
        **early_info(case, measured, ttft_s),
        **length_info(w, measured),
        **cores_info(measured),
        **({"step_counts": measured.step.to_dict()} if measured.step else {}),
        "parity": {"check": measured.check, "rows": parity.rows, "excused_rows": parity.excused_rows},
    }


def ceiling_info(measured: Measurement) -> dict[str, Any]:
    """The call's lower bounds, and the highest of them, its ceiling. Nothing where they were not measured."""
    bounds = measured.lower_bounds
    if not bounds:
        return {}
    kind = max(bounds, key=lambda kind: statistics.median(bounds[kind].rounds_s))
    return {
        "ceiling_kind": kind,
        "ceiling_rounds_s": bounds[kind].rounds_s,
        "ceiling_ttft_rounds_s": bounds[kind].ttft_rounds_s,
        **{f"{name}_rounds_s": bound.rounds_s for name, bound in bounds.items()},
    }


def early_info(case: Case, measured: Measurement, ttft_s: float) -> dict[str, Any]:
    """Time per output token over the first tokens, where the case asks for it."""
    if not measured.early_rounds_s:
        return {}
    early_s = statistics.median(measured.early_rounds_s)
    return {
        "early_tokens": case.early_tokens,
        "early_rounds_s": measured.early_rounds_s,
        "early_time_per_output_token_s": time_per_output_token_s(early_s, ttft_s, case.early_tokens),
    }


def length_info(workload: Workload, measured: Measurement) -> dict[str, Any]:
    """How long prompts and rows are, where they differ in that."""
    return {
        **({"shortest_prompt": workload.shortest_prompt} if workload.shortest_prompt else {}),
        **({"row_ends": workload.row_ends, "eos_token_ids": measured.eos_token_ids} if workload.row_ends else {}),
    }


def cores_info(measured: Measurement) -> dict[str, Any]:
    """Where the cores were before and after each call: pairs of `cores.CorePass`, by kind of pass."""
    return {
        "own_passes_s": [[before.own_s, after.own_s] for before, after in measured.cores],
        "exchanged_passes_s": [[before.exchanged_s, after.exchanged_s] for before, after in measured.cores],
    }
