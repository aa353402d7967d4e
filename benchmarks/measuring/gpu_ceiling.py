"""How fast a generate call could be on a GPU: its products and its weights' way, at the speeds of `machine.cuda`."""

from __future__ import annotations

from typing import Any

from benchmarks.machine import cuda
from benchmarks.measuring.ceiling import LowerBound
from benchmarks.workloads import Workload

VALUE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


def lower_bounds(
    config: Any, workload: Workload, precision: str, rounds: int, device: str = "cuda", **sizes: int
) -> dict[str, LowerBound]:
    """On the time of a call, by kind: its products, and its weights' way from memory.

    Args:
        config: The size's GPT2Config.
        workload: The call.
        precision: "fp32", "fp16" or "bf16".
        rounds: How many times to state it, to stand beside as many rounds.
        device: "cuda"; "cpu" to try it out.
        **sizes: `copy_bytes` and `side`, to try it out.
    """
    D, layers = config.n_embd, config.n_layer
    inner = config.n_inner or 4 * D
    block_values = layers * (4 * D * D + 2 * D * inner)
    head_values = D * config.vocab_size
    B, S = workload.prompts, workload.prompts * workload.num_return_sequences
    rate = cuda.flops_per_s(precision, device, sizes.get("side", cuda.SIDE))
    bandwidth = cuda.bandwidth_bytes_per_s(device, sizes.get("copy_bytes", cuda.COPY_BYTES))
    steps = workload.max_new_tokens - 1
    # The LM head sees the last positions only.
    prefill_s = 2 * (block_values * B * workload.prompt_len + head_values * B) / rate
    step_s = 2 * (block_values + head_values) * S / rate
    read_s = VALUE_BYTES[precision] * (block_values + head_values) / bandwidth
    return {
        "products": LowerBound([prefill_s + steps * step_s] * rounds, [prefill_s] * rounds),
        "bandwidth": LowerBound([(steps + 1) * read_s] * rounds, [read_s] * rounds),
    }
