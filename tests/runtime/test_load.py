"""Load: one OnnxLoop over a thousand calls, from one thread and from eight, stays right and stays small."""

from __future__ import annotations

import gc
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from gptloop import OnnxLoop

CALLS = 1_000
DISTINCT = 40
THREADS = 8
MIB = 2**20

# A warm loop has seen each call and grown the runtime's arenas to the largest; from then on what a call needs is given
# back. What is left to waver is malloc, by 0.2 MiB where this was written; more threads have more of its arenas. The KV
# caches of a call are 39 KiB on average: were those of one call in thirty not given back, it would show.
GROWTH_BYTES = 1 * MIB
GROWTH_OF_THREADS_BYTES = 4 * MIB


@pytest.fixture(scope="module")
def calls() -> list[tuple[np.ndarray, dict]]:
    """Calls of varying shapes and features, the same on every run."""
    generator = np.random.default_rng(0)

    def some(*values):
        return values[generator.integers(len(values))]

    drawn = []
    for seed in range(DISTINCT):
        prompts, prompt_len, max_new_tokens = (int(generator.integers(1, end)) for end in (5, 40, 25))
        mask = np.ones((prompts, prompt_len), np.int64)
        mask[0, : generator.integers(prompt_len)] = 0
        call = {
            "max_new_tokens": max_new_tokens,
            "attention_mask": some(None, mask),
            "num_return_sequences": some(1, 1, 2, 5),
            "temperature": some(0, 1.0, 1.5),
            "top_k": some(50, 1, 0),
            "top_p": some(1.0, 0.9),
            "repetition_penalty": some(1.0, 1.3),
            "eos_token_id": some(None, list(range(20))),
            "return_logprobs": some(False, True),
            "seed": seed,
        }
        drawn.append((generator.integers(0, 97, (prompts, prompt_len)), call))
    return drawn


@pytest.fixture(scope="module")
def expected(tiny, calls) -> list[list[np.ndarray]]:
    """What a fresh loop gives for each call."""
    return [results(OnnxLoop(tiny.path, device="cpu", threads=1), call) for call in calls]


def results(loop: OnnxLoop, call: tuple[np.ndarray, dict]) -> list[np.ndarray]:
    prompts, arguments = call
    generated = loop.generate(prompts, **arguments)
    return list(generated) if isinstance(generated, tuple) else [generated]


def shuffled(seed: int, count: int) -> list[int]:
    """Numbers of calls in an order in which any may follow any."""
    order = [index % DISTINCT for index in range(count)]
    random.Random(seed).shuffle(order)
    return order


def resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def assert_right(loop: OnnxLoop, calls, expected, order: list[int]) -> None:
    for index in order:
        for found, wanted in zip(results(loop, calls[index]), expected[index], strict=True):
            # Log-probabilities, too, bit for bit: the same products in the same order.
            np.testing.assert_array_equal(found, wanted, strict=True)


def test_a_thousand_calls_give_what_fresh_loops_give_and_leave_no_memory_behind(tiny, calls, expected):
    loop = OnnxLoop(tiny.path, device="cpu", threads=1)
    assert_right(loop, calls, expected, shuffled(0, 5 * DISTINCT))
    warm = resident_bytes()
    assert_right(loop, calls, expected, shuffled(1, CALLS))
    grown = resident_bytes() - warm
    assert grown < GROWTH_BYTES, f"resident memory grew by {grown / MIB:.2f} MiB"


def test_eight_threads_sharing_a_loop_get_what_fresh_loops_give_and_leave_no_memory_behind(tiny, calls, expected):
    loop = OnnxLoop(tiny.path, device="cpu", threads=1)

    def work(seed: int, count: int) -> None:
        assert_right(loop, calls, expected, shuffled(seed, count))

    with ThreadPoolExecutor(THREADS) as pool:

        def load(seed: int, count: int) -> None:
            list(pool.map(work, range(seed, seed + THREADS), [count] * THREADS))

        load(0, 2 * DISTINCT)
        warm = resident_bytes()
        load(THREADS, CALLS // THREADS)
        grown = resident_bytes() - warm
    assert grown < GROWTH_OF_THREADS_BYTES, f"resident memory grew by {grown / MIB:.2f} MiB"
