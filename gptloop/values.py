"""One value of a user's, checked: the message names the argument, the value and the bound.

Knows numbers and shapes; not what they are for. A message repeats no more of a value than anybody reads.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

INT64_MAX = 2**63 - 1
LONGEST_SHOWN = 200  # characters of a value


def shown(value: Any, text: Callable[[Any], str] = repr) -> str:
    """A value for a message, cut where it is long."""
    try:
        whole = text(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return f"an integer of {value.bit_length()} bits"
    if len(whole) <= LONGEST_SHOWN:
        return whole
    return f"{whole[: LONGEST_SHOWN // 2]}... ({len(whole)} characters)"


def whole_number(name: str, value: Any, at_least: int, at_most: int = INT64_MAX) -> int:
    """An integer from `at_least` to `at_most`.

    Raises:
        ValueError: If it is something else.
    """
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    if whole is None or isinstance(value, bool):
        raise ValueError(f"{name} must be an integer, got {shown(value)}")
    if whole < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {shown(whole)}")
    if whole > at_most:
        bound = "2^63 - 1" if at_most == INT64_MAX else at_most
        raise ValueError(f"{name} must be at most {bound}, got {shown(whole)}")
    return whole


def number(name: str, value: Any, bound: str, holds: Callable[[float], bool]) -> float:
    """A finite number for which `holds` is true; `bound` says in words what that is.

    Raises:
        ValueError: If it is something else.
    """
    only = only_number(value)
    if isinstance(only, bool | np.bool_) or not isinstance(only, numbers.Real | np.number):
        raise ValueError(f"{name} must be a number, got {shown(value)}")
    try:
        real = float(only)
    except OverflowError:
        real = math.inf
    if not (math.isfinite(real) and holds(real)):
        raise ValueError(f"{name} must be {bound}, got {shown(value, str)}")
    return real


def only_number(value: Any) -> Any:
    """The number that an array or a tensor of no dimensions has; anything else as it is."""
    if shape_of(value) != () or not hasattr(value, "item"):
        return value
    try:
        return value.item()
    except RuntimeError:  # PyTorch's, of a tensor that is not in memory
        return value


def per_prompt(name: str, value: Any, prompts: int) -> list[Any]:
    """A scalar for every prompt, or the prompts' own values.

    Raises:
        ValueError: If there are neither one nor as many as prompts.
    """
    shape = shape_of(value)
    if shape == ():
        return [value] * prompts
    if shape != (prompts,):
        raise ValueError(f"{name} must be one value or one per prompt ({prompts}), got {shape_text(value)}")
    return list(value)


def array(name: str, value: Any) -> npt.NDArray[Any]:
    """As numpy has it.

    Raises:
        ValueError: If numpy cannot: of rows that differ in length, of a tensor that is not in memory or of a dtype that
            numpy lacks.
    """
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} must be a rectangular array in memory: {error}") from error


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of a number or of nested sequences; None of ragged ones."""
    try:
        return np.shape(value)
    except ValueError:
        return None


def shape_text(value: Any) -> str:
    """The shape in words; of ragged sequences, the lengths of their rows."""
    shape = shape_of(value)
    if shape is not None:
        return f"shape {list(shape)}"
    lengths = [len(row) if isinstance(row, Sized) else 1 for row in value]
    return f"{len(lengths)} ragged rows, of {min(lengths)} to {max(lengths)}"


def float32(value: float) -> np.float32:
    """The nearest one; infinite beyond its range, without a warning."""
    with np.errstate(over="ignore"):
        return np.float32(value)
