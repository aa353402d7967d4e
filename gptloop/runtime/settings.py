"""The settings of a call that each prompt may have its own of, checked: one value or one per prompt -> [B].

All raise a ValueError that names the setting, the value and the bound. A bound holds for a value as float32, which is
what a call uses: np.float32(1e-5) is a little below 1e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gptloop import names
from gptloop.values import float32, number, per_prompt, whole_number

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int64]

TEMPERATURE_MIN, TEMPERATURE_MAX = names.TEMPERATURE_BOUNDS
PENALTY_MIN, PENALTY_MAX = names.PENALTY_BOUNDS


def temperature(value: Any, prompts: int) -> Floats:
    """0, or within the bounds."""
    bound = f"0 (greedy) or a finite number from {TEMPERATURE_MIN} to {TEMPERATURE_MAX}"
    return _floats(
        "temperature", value, prompts, bound, lambda x: x == 0 or _within(x, TEMPERATURE_MIN, TEMPERATURE_MAX)
    )


def top_k(value: Any, prompts: int, vocab_size: int) -> Integers:
    """0 to the vocabulary's size."""
    values = _integers("top_k", value, prompts)
    if values.max() > vocab_size:
        raise ValueError(f"top_k must be within 0..{vocab_size} (0 keeps the whole vocabulary), got {values.max()}")
    return values


def top_p(value: Any, prompts: int) -> Floats:
    """Above 0, at most 1."""
    bound = "above 0 and at most 1 (1 keeps all)"
    return _floats("top_p", value, prompts, bound, lambda x: bool(0 < float32(x) <= 1))


def min_p(value: Any, prompts: int) -> Floats:
    """0 to 1."""
    return _floats("min_p", value, prompts, "within 0..1", lambda x: bool(x >= 0 and float32(x) <= 1))


def repetition_penalty(value: Any, prompts: int) -> Floats:
    """Within the bounds."""
    bound = f"above 0, from {PENALTY_MIN} to {PENALTY_MAX} (1 is none)"
    return _floats("repetition_penalty", value, prompts, bound, lambda x: _within(x, PENALTY_MIN, PENALTY_MAX))


def no_repeat_ngram_size(value: Any, prompts: int, n_positions: int) -> Integers:
    """At least 0; cut at the longest text, as longer ones forbid nothing either."""
    return np.minimum(_integers("no_repeat_ngram_size", value, prompts), n_positions)


def _floats(name: str, value: Any, prompts: int, bound: str, holds: Callable[[float], bool]) -> Floats:
    usable = [number(name, one, bound, holds) for one in per_prompt(name, value, prompts)]
    return np.asarray(usable, dtype=np.float32)


def _integers(name: str, value: Any, prompts: int) -> Integers:
    usable = [whole_number(name, one, at_least=0) for one in per_prompt(name, value, prompts)]
    return np.asarray(usable, dtype=np.int64)


def _within(value: float, low: float, high: float) -> bool:
    return bool(float32(low) <= float32(value) <= float32(high))
