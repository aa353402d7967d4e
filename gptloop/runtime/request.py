"""One generate call, checked: what OnnxLoop and TorchLoop share before either does any work.

Knows the bounds of the arguments; knows neither runtime.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from gptloop import names
from gptloop.runtime.arguments import Arguments, with_defaults
from gptloop.values import float32, number, per_prompt, shape_of, shape_text, shown, whole_number

SEED_MAX = 2**63 - 1
CANDIDATES_MAX = names.CANDIDATES_MAX
TEMPERATURE_MIN, TEMPERATURE_MAX = names.TEMPERATURE_BOUNDS
PENALTY_MIN, PENALTY_MAX = names.PENALTY_BOUNDS


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
        first_candidate: The number of the first of them.
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
    first_candidate: int
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
    bounds: Bounds, input_ids: npt.ArrayLike, *, return_logprobs: bool = False, **arguments: Unpack[Arguments]
) -> Request:
    """Turn a call's arguments into a Request.

    Args:
        bounds: The model's vocabulary size and number of positions.
        input_ids: As `gptloop.OnnxLoop.generate`, like all that follows.
        return_logprobs: Whether log-probabilities are wanted.
        **arguments: gptloop.runtime.arguments.Arguments.

    Raises:
        ValueError: Naming the argument, the value and the bound.
        TypeError: If an argument is unknown, or max_new_tokens is not given.
    """
    given = with_defaults(arguments, bounds.vocab_size)
    ids = _check_ids(input_ids, bounds.vocab_size)
    prompts, prompt_len = ids.shape
    new_tokens = whole_number("max_new_tokens", given["max_new_tokens"], at_least=1)
    if prompt_len + new_tokens > bounds.n_positions:
        raise ValueError(
            f"prompt_len {prompt_len} + max_new_tokens {new_tokens} = {prompt_len + new_tokens} "
            f"is above the model's n_positions {bounds.n_positions}"
        )
    candidates = whole_number("num_return_sequences", given["num_return_sequences"], 1, CANDIDATES_MAX)
    eos_token_ids = _check_eos(given["eos_token_id"], bounds.vocab_size)
    if not isinstance(return_logprobs, bool):
        raise ValueError(f"return_logprobs must be True or False, got {shown(return_logprobs)}")
    return Request(
        input_ids=ids,
        attention_mask=_check_mask(given["attention_mask"], ids.shape),
        max_new_tokens=new_tokens,
        min_new_tokens=_check_min_new_tokens(given["min_new_tokens"], new_tokens, eos_token_ids, bounds),
        num_return_sequences=candidates,
        first_candidate=whole_number(
            "first_candidate", given["first_candidate"], at_least=0, at_most=CANDIDATES_MAX - candidates
        ),
        temperature=_check_temperature(per_prompt("temperature", given["temperature"], prompts)),
        top_k=_check_top_k(per_prompt("top_k", given["top_k"], prompts), bounds.vocab_size),
        top_p=_check_top_p(per_prompt("top_p", given["top_p"], prompts)),
        min_p=number("min_p", given["min_p"], "within 0..1", lambda x: bool(x >= 0 and float32(x) <= 1)),
        repetition_penalty=_check_penalty(given["repetition_penalty"]),
        eos_token_ids=eos_token_ids,
        pad_token_id=_check_pad(given["pad_token_id"], eos_token_ids, bounds.vocab_size),
        return_logprobs=return_logprobs,
        seed=_fresh_seeds(prompts) if given["seed"] is None else _check_seed(given["seed"], prompts),
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
    if shape_of(attention_mask) != shape:
        raise ValueError(f"attention_mask must have input_ids' shape {list(shape)}, got {shape_text(attention_mask)}")
    mask = np.asarray(attention_mask)
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"attention_mask must be 0 or 1, got {shown(mask[~np.isin(mask, (0, 1))][0], str)}")
    mask = np.ascontiguousarray(mask, dtype=np.int64)
    for row in np.flatnonzero(mask.sum(1) == 0):
        raise ValueError(f"attention_mask must leave each prompt at least 1 token, row {row} has none")
    for row in np.flatnonzero((np.diff(mask, axis=1) < 0).any(1)):
        raise ValueError(
            f"attention_mask must pad on the left (0s before 1s), row {row} is {shown(mask[row].tolist())}"
        )
    return mask


def _check_min_new_tokens(value: Any, new_tokens: int, eos_token_ids: tuple[int, ...], bounds: Bounds) -> int:
    min_tokens = whole_number("min_new_tokens", value, at_least=0)
    if min_tokens > new_tokens:
        raise ValueError(f"min_new_tokens must be at most max_new_tokens {new_tokens}, got {min_tokens}")
    if min_tokens > 0 and len(set(eos_token_ids)) == bounds.vocab_size:
        raise ValueError(
            f"eos_token_id must leave a token for min_new_tokens {min_tokens}, got all {bounds.vocab_size}"
        )
    return min_tokens


def _check_eos(eos_token_id: Any, vocab_size: int) -> tuple[int, ...]:
    if eos_token_id is None:
        return ()
    shape = shape_of(eos_token_id)
    if shape is None or len(shape) > 1:
        raise ValueError(f"eos_token_id must be one id or a sequence of ids, got {shown(eos_token_id)}")
    values = [eos_token_id] if shape == () else list(eos_token_id)
    return tuple(_token_id("eos_token_id", value, vocab_size) for value in values)


def _check_pad(pad_token_id: Any, eos_token_ids: tuple[int, ...], vocab_size: int) -> int:
    if pad_token_id is None:
        return eos_token_ids[0] if eos_token_ids else 0
    return _token_id("pad_token_id", pad_token_id, vocab_size)


def _token_id(name: str, value: Any, vocab_size: int) -> int:
    token = whole_number(name, value, at_least=0)
    if token >= vocab_size:
        raise ValueError(f"{name} must be within 0..{vocab_size - 1} (vocab_size {vocab_size}), got {token}")
    return token


def _check_temperature(values: list[Any]) -> npt.NDArray[np.float32]:
    bound = f"0 (greedy) or a finite number from {TEMPERATURE_MIN} to {TEMPERATURE_MAX}"
    usable = [
        number("temperature", x, bound, lambda x: x == 0 or _within(x, TEMPERATURE_MIN, TEMPERATURE_MAX))
        for x in values
    ]
    return np.asarray(usable, dtype=np.float32)


def _check_penalty(value: Any) -> float:
    bound = f"above 0, from {PENALTY_MIN} to {PENALTY_MAX} (1 is none)"
    return number("repetition_penalty", value, bound, lambda x: _within(x, PENALTY_MIN, PENALTY_MAX))


def _within(value: float, low: float, high: float) -> bool:
    return bool(float32(low) <= float32(value) <= float32(high))


def _check_top_k(values: list[Any], vocab_size: int) -> npt.NDArray[np.int64]:
    top_k = np.asarray([whole_number("top_k", value, at_least=0) for value in values], dtype=np.int64)
    if top_k.max() > vocab_size:
        raise ValueError(f"top_k must be within 0..{vocab_size} (0 keeps the whole vocabulary), got {top_k.max()}")
    return top_k


def _check_top_p(values: list[Any]) -> npt.NDArray[np.float32]:
    values_ = [
        number("top_p", value, "above 0 and at most 1 (1 keeps all)", lambda x: bool(0 < float32(x) <= 1))
        for value in values
    ]
    return np.asarray(values_, dtype=np.float32)


def _fresh_seeds(prompts: int) -> npt.NDArray[np.int64]:
    return np.asarray([secrets.randbelow(2**63) for _ in range(prompts)], dtype=np.int64)


def _check_seed(seed: Any, prompts: int) -> npt.NDArray[np.int64]:
    if shape_of(seed) == ():
        first = whole_number("seed", seed, at_least=0)
        seeds = [first + prompt for prompt in range(prompts)]
    else:
        seeds = [whole_number("seed", value, at_least=0) for value in per_prompt("seed", seed, prompts)]
    if max(seeds) > SEED_MAX:
        raise ValueError(f"seed must be within 0..2^63 - 1 for each of the {prompts} prompts, got {max(seeds)}")
    return np.asarray(seeds, dtype=np.int64)
