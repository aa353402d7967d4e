"""Token ids of a user's, one, several, or sequences of them, checked; and as the graph takes sequences.

Knows the vocabulary's size; not what the ids are for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from gptloop import names
from gptloop.values import number, only_number, shape_of, shown, whole_number

Ids = tuple[int, ...]

NO_SEQUENCES = np.array([[-1]])
BIAS_MAX = names.BIAS_MAX


def token_id(name: str, value: Any, vocab_size: int) -> int:
    """An id within the vocabulary.

    Raises:
        ValueError: If it is something else.
    """
    token = whole_number(name, value, at_least=0)
    if token >= vocab_size:
        raise ValueError(f"{name} must be within 0..{vocab_size - 1} (vocab_size {vocab_size}), got {token}")
    return token


def one_or_several(name: str, value: Any, vocab_size: int) -> Ids:
    """An id, or ids, maybe none; None is none.

    Raises:
        ValueError: If it is something else.
    """
    if value is None:
        return ()
    shape = shape_of(value)
    if shape is None or len(shape) > 1:
        raise ValueError(f"{name} must be one id or a sequence of ids, got {shown(value)}")
    return tuple(token_id(name, token, vocab_size) for token in ([value] if shape == () else value))


def sequences(name: str, value: Any, vocab_size: int) -> list[Ids]:
    """A sequence of ids, or several, at least one id each; None is none.

    Raises:
        ValueError: If it is something else.
    """
    if value is None:
        return []
    if not _is_sequence(value):
        raise ValueError(f"{name} must be a sequence of ids, or several, got {shown(value)}")
    several = list(value) if len(value) and all(map(_is_sequence, value)) else [value]
    return [_sequence(name, ids, vocab_size) for ids in several]


def biases(name: str, value: Any, vocab_size: int) -> dict[Ids, float]:
    """Numbers by the sequences that they are for, given as a mapping or as pairs; None is none.

    Raises:
        ValueError: If it is something else, or a number neither within `BIAS_MAX` nor -inf.
    """
    if value is None:
        return {}
    try:
        pairs = list(value.items() if isinstance(value, Mapping) else value)
    except TypeError:  # nothing that can be gone through
        pairs = [value]
    if not all(_is_sequence(pair) and len(pair) == 2 and _is_sequence(pair[0]) for pair in pairs):
        raise ValueError(f"{name} must map sequences of ids to numbers, got {shown(value)}")
    return {_sequence(name, ids, vocab_size): _bias(name, bias) for ids, bias in pairs}


def padded(several: Sequence[Ids]) -> npt.NDArray[np.int64]:
    """Sequences as the graph takes them: int64 [Q, W], those that are shorter filled up with -1 on the left."""
    if not several:
        return NO_SEQUENCES
    width = max(map(len, several))
    return np.array([[-1] * (width - len(ids)) + [*ids] for ids in several], dtype=np.int64)


def _is_sequence(value: Any) -> bool:
    return shape_of(value) != ()


def _sequence(name: str, ids: Any, vocab_size: int) -> Ids:
    if not len(ids):
        raise ValueError(f"{name} must have at least 1 token id in each sequence, got {shown(ids)}")
    return tuple(token_id(name, token, vocab_size) for token in ids)


def _bias(name: str, value: Any) -> float:
    only = only_number(value)
    if isinstance(only, Real | np.floating) and only == -math.inf:
        return -math.inf
    bound = f"-inf, which forbids, or a finite number from -{BIAS_MAX:g} to {BIAS_MAX:g}"
    return number(name, value, bound, lambda x: abs(x) <= BIAS_MAX)
