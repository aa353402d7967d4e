"""Which prompts go through the model together: those of nearly equal length, since a batch is as long as its longest.

Knows the lengths of prompts; runs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Result = TypeVar("Result")

ROWS = 64  # candidates generated at once: those of a long list of prompts would fill the memory with their KV caches
# Tokens of a batch's prompts, padding included. Their prefill takes 150 KB each (gpt2, in fp32 and int8), and from
# about 1,000 tokens on, more of them at once are not faster.
PROMPT_TOKENS = 8192
# A decode step takes as long as the prefill of so many tokens, beside what each of its rows takes (gpt2 on an AMD EPYC
# with 2 cores: 16 in fp32 and in int8).
STEP_TOKENS = 16


def length_sorted(lengths: Sequence[int], *, candidates: int, new_tokens: int) -> list[list[int]]:
    """Cut the prompts, sorted by length, into the batches that take the least time together.

    A batch takes the time of its tokens, padding included, and of its steps. So few new tokens make for small batches
    that hardly pad, and many new tokens for large ones.

    Args:
        lengths: Of each prompt, in tokens.
        candidates: Of each prompt.
        new_tokens: Of each candidate, at most.

    Returns:
        The prompts' numbers, each in one batch; the longest prompts first. A batch has at most `ROWS` candidates and
        `PROMPT_TOKENS`, or one prompt.
    """
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    most = max(1, ROWS // candidates)
    least, start = [0], [0]  # of the first prompts in this order: what they take, and where their last batch starts
    for end in range(1, len(order) + 1):
        sizes = [
            size
            for size in range(1, min(most, end) + 1)
            if size == 1 or size * lengths[order[end - size]] <= PROMPT_TOKENS
        ]
        times = [least[end - size] + size * lengths[order[end - size]] for size in sizes]
        best = min(range(len(sizes)), key=times.__getitem__)
        least.append(times[best] + STEP_TOKENS * new_tokens)
        start.append(end - sizes[best])
    batches, end = [], len(order)
    while end:
        batches.append(order[start[end] : end])
        end = start[end]
    return batches[::-1]


def padded_length(length: int, at_most: int) -> int:
    """The length that a prompt is padded to where that may depend on nothing else: about a quarter more, or `at_most`.

    A row's shape decides in which order floating-point sums are made. Where all prompts of a batch have the same padded
    length, each gives the same bits whatever the others are.
    """
    grain = max(8, 2 ** (length.bit_length() - 3))
    return min(-(-length // grain) * grain, at_most)


def of_padded_length(lengths: Sequence[int], *, candidates: int, at_most: int) -> list[list[int]]:
    """Cut the prompts into batches of one `padded_length` each; else as `length_sorted`."""
    of_length: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        of_length.setdefault(padded_length(length, at_most), []).append(number)
    cut = []
    for length in sorted(of_length, reverse=True):
        most = max(1, min(ROWS // candidates, PROMPT_TOKENS // length))
        cut += [of_length[length][first : first + most] for first in range(0, len(of_length[length]), most)]
    return cut


def in_input_order(batches: Iterable[list[int]], run: Callable[[list[int]], Iterable[Result]]) -> Iterator[Result]:
    """What `run` makes of each prompt, from number 0 on; a batch is run when the first of its results is asked for."""
    batch_of = {number: batch for batch in batches for number in batch}
    waiting: dict[int, Result] = {}
    for number in range(len(batch_of)):
        if number not in waiting:
            waiting.update(zip(batch_of[number], run(batch_of[number]), strict=True))
        yield waiting.pop(number)


def left_padded(
    prompts: Sequence[Sequence[int]], at_least: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Prompts as one array, and where in it they are: `input_ids` and `attention_mask`, int64 [B, P] each.

    P is the length of the longest one, or `at_least`.
    """
    P = max(at_least, *map(len, prompts))
    ids, mask = (np.zeros((len(prompts), P), dtype=np.int64) for _ in range(2))
    for row, prompt in enumerate(prompts):
        ids[row, P - len(prompt) :] = prompt
        mask[row, P - len(prompt) :] = 1
    return ids, mask
