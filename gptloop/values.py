"""One value of a user's, checked: the message names the argument, the value and the bound.

Knows numbers and shapes; not what they are for.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from typing import Any

import numpy as np


def whole_number(name: str, value: Any, at_least: int) -> int:
    """An integer from `at_least` to 2^63 - 1.

    Raises:
        ValueError: If it is something else.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if whole < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {whole}")
    if whole > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be at most 2^63 - 1, got {whole}")
    return whole


def number(name: str, value: Any, bound: str, holds: Callable[[float], bool]) -> float:
    """A finite number for which `holds` is true; `bound` says in words what that is.

    Raises:
        ValueError: If it is something else.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | np.number):
        raise ValueError(f"{name} must be a number, got {value!r}")
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not (math.isfinite(real) and holds(real)):
        raise ValueError(f"{name} must be {bound}, got {value}")
    return real


def per_prompt(name: str, value: Any, prompts: int) -> list[Any]:
    """A scalar for every prompt, or the prompts' own values.

    Raises:
        ValueError: If there are neither one nor as many as prompts.
    """
    shape = shape_of(value)
    if shape == ():
        return [value] * prompts
    if shape != (prompts,):
        raise ValueError(f"{name} must be one value or one per prompt ({prompts}), got shape {shape and list(shape)}")
    return list(value)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a number or of nested sequences; None of ragged ones."""
    try:
        return np.shape(value)
    except ValueError:
        return None
