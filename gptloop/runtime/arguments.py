"""The arguments of a call: names, types, defaults and documentation, in this place only.

Whatever generates takes them as `**arguments: Unpack[Arguments]`, and shows them in its signature and its help where it
is decorated with `takes_arguments`. Does not know their bounds (request.py, settings.py).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Required, TypedDict, TypeVar

import numpy.typing as npt

from gptloop.values import shown


class Arguments(TypedDict, total=False):
    """The settings of a call have the names, the order and the meaning of Hugging Face's `generate`.

    max_new_tokens: N at most, at least 1; P + max_new_tokens may not exceed the model's n_positions.
    attention_mask: [B, P], 1 for a token, 0 for padding, which must be on the left; None where all are tokens.
        A padded prompt gives the same tokens as the prompt alone.
    num_return_sequences: R candidates of each prompt, at least 1.
    first_candidate: The number of the first one: 0, or how many an earlier call has generated, to go on with the
        candidates that a call for all of them would have. first_candidate + num_return_sequences is at most 2^31 - 1.
    temperature: Divides the logits; 0 is greedy. One number, or one per prompt.
    top_k: How many of the most likely tokens are drawn from, equally likely ones by lower id; 0 to V, 0 for the
        whole vocabulary. One number, or one per prompt. Not given, it is V where that is below the default.
    top_p: Draw from the most likely tokens that together reach this probability; above 0, at most 1. One
        number, or one per prompt.
    min_p: Draw from tokens at least this fraction as likely as the most likely one; 0 to 1. One number, or one
        per prompt.
    repetition_penalty: Divides the positive and multiplies the negative logits of tokens that the row has
        already; above 0, 1 for none. Padding does not count as a token. One number, or one per prompt.
    no_repeat_ngram_size: No so many tokens in a row twice, those of the prompt included; 0 for any. One number,
        or one per prompt.
    sequence_bias: Numbers, by sequences of token ids (a dict of tuples, or pairs), to add to the logit of a
        sequence's last id where the row, or its prompt, ends with those before it; -inf forbids. A sequence of
        one id is biased always.
    bad_words_ids: Sequences of token ids that must not be generated; that of an eos_token_id alone is passed over.
    suppress_tokens: Ids that must not be generated.
    min_new_tokens: No end of text before so many new tokens; 0 to max_new_tokens. Stop sequences may come before.
    seed: 0 to 2^63 - 1. One number (prompt i then has seed + i), or one per prompt; None draws fresh ones,
        which `Generation.seed` holds. The same seed gives the same tokens, whatever else is in the batch.
    eos_token_id: The id, or ids, that end a row; None to go on. Generation ends when all rows have ended.
    stop_sequences: A sequence of token ids, or several, of any lengths: the token that completes one ends a row.
        Generated tokens count only, not the prompt's.
    pad_token_id: What follows the end of a row; None for the first eos_token_id, or 0.
    """

    max_new_tokens: Required[int]
    attention_mask: npt.ArrayLike | None
    num_return_sequences: int
    first_candidate: int
    temperature: float | Sequence[float]
    top_k: int | Sequence[int]
    top_p: float | Sequence[float]
    min_p: float | Sequence[float]
    repetition_penalty: float | Sequence[float]
    no_repeat_ngram_size: int | Sequence[int]
    sequence_bias: Mapping[tuple[int, ...], float] | Sequence[tuple[Sequence[int], float]] | None
    bad_words_ids: Sequence[Sequence[int]] | None
    suppress_tokens: Sequence[int] | None
    min_new_tokens: int
    seed: int | Sequence[int] | None
    eos_token_id: int | Sequence[int] | None
    stop_sequences: Sequence[int] | Sequence[Sequence[int]] | None
    pad_token_id: int | None


DEFAULTS: dict[str, Any] = {
    "attention_mask": None,
    "num_return_sequences": 1,
    "first_candidate": 0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "sequence_bias": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "min_new_tokens": 0,
    "seed": 0,
    "eos_token_id": None,
    "stop_sequences": None,
    "pad_token_id": None,
}


def with_defaults(arguments: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """Every argument of a call by its name, the default where it was not given.

    Args:
        arguments: Those that were given.
        vocab_size: The model's, at which the default top_k ends.

    Raises:
        TypeError: If one is unknown, or max_new_tokens is not given.
    """
    for name in arguments:
        if name not in Arguments.__annotations__:
            raise TypeError(f"generate() got an unexpected argument {shown(name)}, it takes {', '.join(NAMES)}")
    if "max_new_tokens" not in arguments:
        raise TypeError("generate() needs the argument max_new_tokens")
    return DEFAULTS | {"top_k": min(DEFAULTS["top_k"], vocab_size)} | dict(arguments)


NAMES = tuple(Arguments.__annotations__)
Function = TypeVar("Function", bound=Callable[..., Any])


def takes_arguments(function: Function) -> Function:
    """Show the arguments in the place of `**arguments` in a function's signature, and their documentation in its own.

    The documentation takes the place of a line `**arguments`.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    last = [p for p in own if p.kind is p.KEYWORD_ONLY]
    shown = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name, inspect.Parameter.empty))
        for name in NAMES
    ]
    function.__signature__ = signature.replace(parameters=[*own[: len(own) - len(last)], *shown, *last])  # type: ignore[attr-defined]
    if function.__doc__:  # python -O -O has none
        entries = inspect.cleandoc(Arguments.__doc__ or "").partition("\n\n")[2]
        indented = entries.replace("\n", "\n" + " " * 12)
        function.__doc__ = function.__doc__.replace("**arguments", indented, 1)
    return function
