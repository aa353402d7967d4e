"""One generate call, checked: what OnnxLoop and TorchLoop share before either does any work.

Knows the bounds of the arguments; knows neither runtime.
"""

from __future__ import annotations

import math
import numbers
import operator
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

SEED_MAX = 2**63 - 1
TEMPERATURE_MIN, TEMPERATURE_MAX = 1e-5, 1e38  # beyond them, a float32 logit over the temperature may overflow


class Bounds(Protocol):
    """The part of a GPT2Config that bounds a call."""

    vocab_size: int
    n_positions: int


@dataclass(frozen=True)
class Request:
    """A generate call in the graph's shapes and dtypes; B prompts.

    Attributes:
        input_ids: int64 [B, P].
        attention_mask: int64 [B, P], 0 for left padding.
        max_new_tokens: N.
        min_new_tokens: No end of text among the first so many.
        num_return_sequences: R.
        temperature: float32 [B].
        top_k: int64 [B].
        top_p: float32 [B].
        min_p: 0 to 1.
        repetition_penalty: Above 0.
        eos_token_ids: Maybe none.
        pad_token_id: Follows a row's end; 0 where nothing ends a row.
        return_logprobs: Whether log-probabilities are wanted.
        seed: int64 [B].
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    max_new_tokens: int
    min_new_tokens: int
    num_return_sequences: int
    temperature: npt.NDArray[np.float32]
    top_k: npt.NDArray[np.int64]
    top_p: npt.NDArray[np.float32]
    min_p: float
    repetition_penalty: float
    eos_token_ids: tuple[int, ...]
    pad_token_id: int
    return_logprobs: bool
    seed: npt.NDArray[np.int64]


def check_request(
    bounds: Bounds,
    input_ids: npt.ArrayLike,
    *,
    max_new_tokens: int,
    attention_mask: npt.ArrayLike | None = None,
    num_return_sequences: int = 1,
    temperature: float | Sequence[float] = 1.0,
    top_k: int | Sequence[int] = 50,
    top_p: float | Sequence[float] = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    min_new_tokens: int = 0,
    seed: int | Sequence[int] | None = 0,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    return_logprobs: bool = False,
) -> Request:
    """Turn a call's arguments into a Request.

    Args:
        bounds: The model's vocabulary size and number of positions.
        input_ids: As `gptloop.OnnxLoop.generate`, like all that follows.
        max_new_tokens: New tokens per row.
        attention_mask: 1 for a token, 0 for left padding.
        num_return_sequences: Candidates per prompt.
        temperature: One, or one per prompt.
        top_k: One, or one per prompt.
        top_p: One, or one per prompt.
        min_p: One for the call.
        repetition_penalty: One for the call.
        min_new_tokens: New tokens before an end of text.
        seed: One (prompt i then has seed + i), one per prompt, or None for fresh ones.
        eos_token_id: What ends a row.
        pad_token_id: What follows it.
        return_logprobs: Whether log-probabilities are wanted.

    Raises:
        ValueError: Naming the argument, the value and the bound.
    """
    ids = _check_ids(input_ids, bounds.vocab_size)
    prompts, prompt_len = ids.shape
    new_tokens = whole_number("max_new_tokens", max_new_tokens, at_least=1)
    if prompt_len + new_tokens > bounds.n_positions:
        raise ValueError(
            f"prompt_len {prompt_len} + max_new_tokens {new_tokens} = {prompt_len + new_tokens} "
            f"is above the model's n_positions {bounds.n_positions}"
        )
    min_tokens = whole_number("min_new_tokens", min_new_tokens, at_least=0)
    if min_tokens > new_tokens:
        raise ValueError(f"min_new_tokens must be at most max_new_tokens {new_tokens}, got {min_tokens}")
    eos_token_ids = _check_eos(eos_token_id, bounds.vocab_size)
    return Request(
        input_ids=ids,
        attention_mask=_check_mask(attention_mask, ids.shape),
        max_new_tokens=new_tokens,
        min_new_tokens=min_tokens,
        num_return_sequences=whole_number("num_return_sequences", num_return_sequences, at_least=1),
        temperature=_check_temperature(_per_prompt("temperature", temperature, prompts)),
        top_k=_check_top_k(_per_prompt("top_k", top_k, prompts), bounds.vocab_size),
        top_p=_check_top_p(_per_prompt("top_p", top_p, prompts)),
        min_p=_number("min_p", min_p, "within 0..1", lambda x: 0 <= x <= 1),
        repetition_penalty=_number("repetition_penalty", repetition_penalty, "above 0", lambda x: x > 0),
        eos_token_ids=eos_token_ids,
        pad_token_id=_check_pad(pad_token_id, eos_token_ids, bounds.vocab_size),
        return_logprobs=bool(return_logprobs),
        seed=_fresh_seeds(prompts) if seed is None else _check_seed(seed, prompts),
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


def _check_mask(attention_mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    if attention_mask is None:
        return np.ones(shape, dtype=np.int64)
    mask = np.asarray(attention_mask)
    if mask.shape != shape:
        raise ValueError(f"attention_mask must have input_ids' shape {list(shape)}, got {list(mask.shape)}")
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"attention_mask must be 0 or 1, got {mask[~np.isin(mask, (0, 1))][0]}")
    mask = np.ascontiguousarray(mask, dtype=np.int64)
    for row in np.flatnonzero(mask.sum(1) == 0):
        raise ValueError(f"attention_mask must leave each prompt at least 1 token, row {row} has none")
    for row in np.flatnonzero((np.diff(mask, axis=1) < 0).any(1)):
        raise ValueError(f"attention_mask must pad on the left (0s before 1s), row {row} is {mask[row].tolist()}")
    return mask


def _check_eos(eos_token_id: Any, vocab_size: int) -> tuple[int, ...]:
    if eos_token_id is None:
        return ()
    shape = _shape(eos_token_id)
    if shape is None or len(shape) > 1:
        raise ValueError(f"eos_token_id must be one id or a sequence of ids, got {eos_token_id!r}")
    values = [eos_token_id] if shape == () else list(eos_token_id)
    return tuple(_token_id("eos_token_id", value, vocab_size) for value in values)


def _check_pad(pad_token_id: Any, eos_token_ids: tuple[int, ...], vocab_size: int) -> int:
    if pad_token_id is None:
        return eos_token_ids[0] if eos_token_ids else 0
    return _token_id("pad_token_id", pad_token_id, vocab_size)


def _token_id(name: str, value: Any, vocab_size: int) -> int:
    number = whole_number(name, value, at_least=0)
    if number >= vocab_size:
        raise ValueError(f"{name} must be within 0..{vocab_size - 1} (vocab_size {vocab_size}), got {number}")
    return number


def _number(name: str, value: Any, bound: str, holds: Callable[[float], bool]) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | np.number):
        raise ValueError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and holds(number)):
        raise ValueError(f"{name} must be {bound}, got {value}")
    return number


def whole_number(name: str, value: Any, at_least: int) -> int:
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
    shape = _shape(value)
    if shape == ():
        return [value] * prompts
    if shape != (prompts,):
        raise ValueError(f"{name} must be one value or one per prompt ({prompts}), got shape {shape and list(shape)}")
    return list(value)


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of a number or of nested sequences; None of ragged ones."""
    try:
        return np.shape(value)
    except ValueError:
        return None


def _check_temperature(values: list[Any]) -> npt.NDArray[np.float32]:
    bound = f"0 (greedy) or a finite number from {TEMPERATURE_MIN} to {TEMPERATURE_MAX}"
    usable = [
        _number("temperature", x, bound, lambda x: x == 0 or TEMPERATURE_MIN <= x <= TEMPERATURE_MAX) for x in values
    ]
    return np.asarray(usable, dtype=np.float32)


def _check_top_k(values: list[Any], vocab_size: int) -> npt.NDArray[np.int64]:
    top_k = np.asarray([whole_number("top_k", value, at_least=0) for value in values], dtype=np.int64)
    if top_k.max() > vocab_size:
        raise ValueError(f"top_k must be within 0..{vocab_size} (0 keeps the whole vocabulary), got {top_k.max()}")
    return top_k


def _check_top_p(values: list[Any]) -> npt.NDArray[np.float32]:
    numbers = [_number("top_p", value, "above 0 and at most 1 (1 keeps all)", lambda x: 0 < x <= 1) for value in values]
    return np.asarray(numbers, dtype=np.float32)


def _fresh_seeds(prompts: int) -> npt.NDArray[np.int64]:
    return np.asarray([secrets.randbelow(2**63) for _ in range(prompts)], dtype=np.int64)


def _check_seed(seed: Any, prompts: int) -> npt.NDArray[np.int64]:
    if _shape(seed) == ():
        first = whole_number("seed", seed, at_least=0)
        seeds = [first + prompt for prompt in range(prompts)]
    else:
        seeds = [whole_number("seed", value, at_least=0) for value in _per_prompt("seed", seed, prompts)]
    if max(seeds) > SEED_MAX:
        raise ValueError(f"seed must be within 0..2^63 - 1 for each of the {prompts} prompts, got {max(seeds)}")
    return np.asarray(seeds, dtype=np.int64)
