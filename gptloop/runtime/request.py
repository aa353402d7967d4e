"""One generate call, checked: what OnnxLoop and TorchLoop share before either does any work.

Knows the bounds of the arguments; knows neither runtime.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

import numpy as np
import numpy.typing as npt

from gptloop import names
from gptloop.runtime import settings
from gptloop.runtime.arguments import Arguments, with_defaults
from gptloop.runtime.token_ids import Ids, biases, one_or_several, padded, sequences, token_id
from gptloop.values import array, per_prompt, shape_of, shape_text, shown, whole_number

SEED_MAX = 2**63 - 1
CANDIDATES_MAX = names.CANDIDATES_MAX


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
        min_p: float32 [B].
        repetition_penalty: float32 [B].
        no_repeat_ngram_size: int64 [B], 0 for none.
        biased_sequences: int64 [Q, W], padded with -1 on the left; [[-1]] for none.
        biases: float32 [Q], -inf for what is forbidden.
        eos_token_ids: Maybe none.
        stop_sequences: int64 [Q, W], as `biased_sequences`.
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
    min_p: npt.NDArray[np.float32]
    repetition_penalty: npt.NDArray[np.float32]
    no_repeat_ngram_size: npt.NDArray[np.int64]
    biased_sequences: npt.NDArray[np.int64]
    biases: npt.NDArray[np.float32]
    eos_token_ids: tuple[int, ...]
    stop_sequences: npt.NDArray[np.int64]
    pad_token_id: int
    return_logprobs: bool
    seed: npt.NDArray[np.int64]

    @property
    def has_stop_sequences(self) -> bool:
        """Whether there are any."""
        return bool(self.stop_sequences.max() >= 0)

    @property
    def may_end(self) -> bool:
        """Whether anything ends a row before max_new_tokens."""
        return bool(self.eos_token_ids) or self.has_stop_sequences


def check_request(
    bounds: Bounds,
    input_ids: npt.ArrayLike,
    *,
    return_logprobs: bool = False,
    prefix_len: int = 0,
    **arguments: Unpack[Arguments],
) -> Request:
    """Turn a call's arguments into a Request.

    Args:
        bounds: The model's vocabulary size and number of positions.
        input_ids: As `gptloop.OnnxLoop.generate`, like all that follows.
        return_logprobs: Whether log-probabilities are wanted.
        prefix_len: Tokens before each prompt.
        **arguments: gptloop.runtime.arguments.Arguments.

    Raises:
        ValueError: Naming the argument, the value and the bound.
        TypeError: If an argument is unknown, or max_new_tokens is not given.
    """
    given = with_defaults(arguments, bounds.vocab_size)
    ids = _check_ids(input_ids, bounds.vocab_size)
    prompts, prompt_len = ids.shape
    new_tokens = _check_new_tokens(given["max_new_tokens"], prefix_len, prompt_len, bounds.n_positions)
    first_candidate, candidates = _check_candidates(given)
    eos_token_ids = one_or_several("eos_token_id", given["eos_token_id"], bounds.vocab_size)
    biased = _check_biases(given, eos_token_ids, bounds.vocab_size)
    min_new_tokens = _check_min_new_tokens(given["min_new_tokens"], new_tokens)
    _check_some_are_left(biased, eos_token_ids, min_new_tokens, bounds.vocab_size)
    if not isinstance(return_logprobs, bool):
        raise ValueError(f"return_logprobs must be True or False, got {shown(return_logprobs)}")
    return Request(
        input_ids=ids,
        attention_mask=_check_mask(given["attention_mask"], ids.shape),
        max_new_tokens=new_tokens,
        min_new_tokens=min_new_tokens,
        num_return_sequences=candidates,
        first_candidate=first_candidate,
        temperature=settings.temperature(given["temperature"], prompts),
        top_k=settings.top_k(given["top_k"], prompts, bounds.vocab_size),
        top_p=settings.top_p(given["top_p"], prompts),
        min_p=settings.min_p(given["min_p"], prompts),
        repetition_penalty=settings.repetition_penalty(given["repetition_penalty"], prompts),
        no_repeat_ngram_size=settings.no_repeat_ngram_size(given["no_repeat_ngram_size"], prompts, bounds.n_positions),
        biased_sequences=padded(list(biased)),
        biases=np.array(list(biased.values()) or [0.0], dtype=np.float32),
        eos_token_ids=eos_token_ids,
        stop_sequences=padded(sequences("stop_sequences", given["stop_sequences"], bounds.vocab_size)),
        pad_token_id=_check_pad(given["pad_token_id"], eos_token_ids, bounds.vocab_size),
        return_logprobs=return_logprobs,
        seed=_fresh_seeds(prompts) if given["seed"] is None else _check_seed(given["seed"], prompts),
    )


def _check_ids(input_ids: npt.ArrayLike, vocab_size: int) -> npt.NDArray[np.int64]:
    ids = array("input_ids", input_ids)
    if ids.ndim != 2:
        raise ValueError(f"input_ids must have 2 dimensions [prompts, prompt_len], got shape {list(ids.shape)}")
    if 0 in ids.shape:
        raise ValueError(f"input_ids must hold at least 1 prompt of at least 1 token, got shape {list(ids.shape)}")
    # Of integers beyond 64 bits, numpy makes an array of objects.
    if not (np.issubdtype(ids.dtype, np.integer) or all(isinstance(token, int) for token in ids.flat)):
        raise ValueError(f"input_ids must be integers, got dtype {ids.dtype}")
    outside = ids[(ids < 0) | (ids >= vocab_size)]
    if outside.size:
        bound = f"within 0..{vocab_size - 1} (vocab_size {vocab_size})"
        raise ValueError(f"input_ids must be {bound}, got {shown(outside[0], str)}")
    return np.array(ids, dtype=np.int64, order="C")  # copied: a stream reads it later than it is checked


def _check_new_tokens(value: Any, prefix_len: int, prompt_len: int, n_positions: int) -> int:
    new_tokens = whole_number("max_new_tokens", value, at_least=1)
    positions = prefix_len + prompt_len + new_tokens
    if positions > n_positions:
        before = f"prefix {prefix_len} + " if prefix_len else ""
        raise ValueError(
            f"{before}prompt_len {prompt_len} + max_new_tokens {new_tokens} = {positions} "
            f"is above the model's n_positions {n_positions}"
        )
    return new_tokens


def _check_candidates(given: dict[str, Any]) -> tuple[int, int]:
    """The first one's number, and how many there are."""
    candidates = whole_number("num_return_sequences", given["num_return_sequences"], 1, CANDIDATES_MAX)
    return whole_number("first_candidate", given["first_candidate"], 0, CANDIDATES_MAX - candidates), candidates


def _check_mask(attention_mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    if attention_mask is None:
        return np.ones(shape, dtype=np.int64)
    if shape_of(attention_mask) != shape:
        raise ValueError(f"attention_mask must have input_ids' shape {list(shape)}, got {shape_text(attention_mask)}")
    mask = array("attention_mask", attention_mask)
    if not np.isin(mask, (0, 1)).all():
        raise ValueError(f"attention_mask must be 0 or 1, got {shown(mask[~np.isin(mask, (0, 1))].tolist()[0])}")
    mask = np.array(mask, dtype=np.int64, order="C")
    for row in np.flatnonzero(mask.sum(1) == 0):
        raise ValueError(f"attention_mask must leave each prompt at least 1 token, row {row} has none")
    for row in np.flatnonzero((np.diff(mask, axis=1) < 0).any(1)):
        raise ValueError(
            f"attention_mask must pad on the left (0s before 1s), row {row} is {shown(mask[row].tolist())}"
        )
    return mask


def _check_min_new_tokens(value: Any, new_tokens: int) -> int:
    min_tokens = whole_number("min_new_tokens", value, at_least=0)
    if min_tokens > new_tokens:
        raise ValueError(f"min_new_tokens must be at most max_new_tokens {new_tokens}, got {min_tokens}")
    return min_tokens


def _check_biases(given: dict[str, Any], eos_token_ids: tuple[int, ...], vocab_size: int) -> dict[Ids, float]:
    """All of them as one: what must not be generated has -inf. Hugging Face lets no bad word forbid an end of text."""
    bad_words = sequences("bad_words_ids", given["bad_words_ids"], vocab_size)
    suppressed = one_or_several("suppress_tokens", given["suppress_tokens"], vocab_size)
    ends = {(token,) for token in eos_token_ids}
    forbidden = [*(ids for ids in bad_words if ids not in ends), *((token,) for token in suppressed)]
    return biases("sequence_bias", given["sequence_bias"], vocab_size) | dict.fromkeys(forbidden, -math.inf)


def _check_some_are_left(
    biased: dict[Ids, float], eos_token_ids: tuple[int, ...], min_new_tokens: int, vocab_size: int
) -> None:
    never = {ids[0] for ids, bias in biased.items() if len(ids) == 1 and bias == -math.inf}
    if len(never) == vocab_size:
        raise ValueError(
            f"suppress_tokens, bad_words_ids and sequence_bias must leave a token, got all {vocab_size} forbidden"
        )
    if min_new_tokens > 0 and len(never.union(eos_token_ids)) == vocab_size:
        raise ValueError(
            f"eos_token_id must leave a token for min_new_tokens {min_new_tokens}, got all {vocab_size} with those "
            "that are forbidden"
        )


def _check_pad(pad_token_id: Any, eos_token_ids: tuple[int, ...], vocab_size: int) -> int:
    if pad_token_id is None:
        return eos_token_ids[0] if eos_token_ids else 0
    return token_id("pad_token_id", pad_token_id, vocab_size)


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
