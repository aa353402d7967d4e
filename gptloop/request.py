"""One generate call, checked: what OnnxLoop and TorchLoop share before either does any work.

Knows the bounds of the arguments; knows neither runtime.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

SEED_MAX = 2**63 - 1
TEMPERATURE_MIN = 1e-5  # below it, a float32 logit over the temperature may overflow


class Bounds(Protocol):
    """The part of a GPT2Config that bounds a call."""

    vocab_size: int
    n_positions: int


@dataclass(frozen=True)
class Request:
    """A generate call in the graph's shapes and dtypes; B prompts.

    Attributes:
        input_ids: int64 [B, P].
        max_new_tokens: N.
        num_return_sequences: R.
        temperature: float32 [B].
        top_k: int64 [B].
        seed: int64 [B].
    """

    input_ids: npt.NDArray[np.int64]
    max_new_tokens: int
    num_return_sequences: int
    temperature: npt.NDArray[np.float32]
    top_k: npt.NDArray[np.int64]
    seed: npt.NDArray[np.int64]


def check_request(
    bounds: Bounds,
    input_ids: npt.ArrayLike,
    *,
    max_new_tokens: int,
    num_return_sequences: int,
    temperature: float | Sequence[float],
    top_k: int | Sequence[int],
    seed: int | Sequence[int],
) -> Request:
    """Turn a call's arguments into a Request.

    Args:
        bounds: The model's vocabulary size and number of positions.
        input_ids: As `gptloop.OnnxLoop.generate`, like all that follows.
        max_new_tokens: New tokens per row.
        num_return_sequences: Candidates per prompt.
        temperature: One, or one per prompt.
        top_k: One, or one per prompt.
        seed: One (prompt i then has seed + i), or one per prompt.

    Raises:
        ValueError: Naming the argument, the value and the bound.
    """
    ids = _check_ids(input_ids, bounds.vocab_size)
    prompts, prompt_len = ids.shape
    new_tokens = _whole_number("max_new_tokens", max_new_tokens, at_least=1)
    if prompt_len + new_tokens > bounds.n_positions:
        raise ValueError(
            f"prompt_len {prompt_len} + max_new_tokens {new_tokens} = {prompt_len + new_tokens} "
            f"is above the model's n_positions {bounds.n_positions}"
        )
    return Request(
        input_ids=ids,
        max_new_tokens=new_tokens,
        num_return_sequences=_whole_number("num_return_sequences", num_return_sequences, at_least=1),
        temperature=_check_temperature(_per_prompt("temperature", temperature, prompts)),
        top_k=_check_top_k(_per_prompt("top_k", top_k, prompts), bounds.vocab_size),
        seed=_check_seed(seed, prompts),
    )


def _check_ids(input_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.int64]:
    try:
        ids = np.asarray(input_ids)
    except ValueError as error:
        raise ValueError(f"input_ids must be a rectangular [prompts, prompt_len] array: {error}") from error
    if ids.ndim != 2:
        raise ValueError(f"input_ids must have 2 dimensions [prompts, prompt_len], got shape {list(ids.shape)}")
    if 0 in ids.shape:
        raise ValueError(f"input_ids must hold at least 1 prompt of at least 1 token, got shape {list(ids.shape)}")
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"input_ids must be integers, got dtype {ids.dtype}")
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if outside.size:
        raise ValueError(f"input_ids must be within 0..{vocab_size - 1} (vocab_size {vocab_size}), got {outside[0]}")
    return np.ascontiguousarray(ids, dtype=np.int64)


def _whole_number(name: str, value: Any, at_least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {number}")
    if number > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be at most 2^63 - 1, got {number}")
    return number


def _per_prompt(name: str, value: Any, prompts: int) -> list[Any]:
    """A scalar for every prompt, or the prompts' own values."""
    if np.ndim(value) == 0:
        return [value] * prompts
    if np.ndim(value) != 1 or len(value) != prompts:
        raise ValueError(f"{name} must be one value or one per prompt ({prompts}), got shape {list(np.shape(value))}")
    return list(value)


def _check_temperature(values: list[Any]) -> npt.NDArray[np.float32]:
    try:
        temperature = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"temperature must be a number, got {values!r}") from error
    usable = (temperature == 0) | ((temperature >= np.float32(TEMPERATURE_MIN)) & np.isfinite(temperature))
    for value in temperature[~usable]:
        raise ValueError(f"temperature must be 0 (greedy) or a finite number from {TEMPERATURE_MIN}, got {value}")
    return temperature


def _check_top_k(values: list[Any], vocab_size: int) -> npt.NDArray[np.int64]:
    top_k = np.asarray([_whole_number("top_k", value, at_least=0) for value in values], dtype=np.int64)
    if top_k.max() > vocab_size:
        raise ValueError(f"top_k must be within 0..{vocab_size} (0 keeps the whole vocabulary), got {top_k.max()}")
    return top_k


def _check_seed(seed: Any, prompts: int) -> npt.NDArray[np.int64]:
    if np.ndim(seed) == 0:
        first = _whole_number("seed", seed, at_least=0)
        seeds = [first + prompt for prompt in range(prompts)]
    else:
        seeds = [_whole_number("seed", value, at_least=0) for value in _per_prompt("seed", seed, prompts)]
    if max(seeds) > SEED_MAX:
        raise ValueError(f"seed must be within 0..2^63 - 1 for each of the {prompts} prompts, got {max(seeds)}")
    return np.asarray(seeds, dtype=np.int64)
