"""Inputs for a file that was exported before the graph had all of them: what it lacks must not be asked for.

Knows graph inputs; neither requests nor runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gptloop import names

Feeds = dict[str, npt.NDArray[Any]]

# Inputs that came later than the others: the value that asks for nothing, which is what a file without it does.
OFF: dict[str, Any] = {
    names.FIRST_CANDIDATE: 0,
    names.NO_REPEAT_NGRAM_SIZE: 0,
    names.SEQUENCE_BIAS_IDS: -1,
    names.SEQUENCE_BIAS: 0,
    names.STOP_SEQUENCES: -1,
}


def fitted(feeds: Feeds, inputs: Mapping[str, Sequence[int | str | None]], path: Path) -> Feeds:
    """The inputs that a file has, in its shapes.

    Args:
        feeds: The present graph's inputs by name.
        inputs: The file's own: names and shapes.
        path: The file.

    Raises:
        ValueError: If what the file lacks is asked for: an input, or another value of one for each prompt.
    """
    fitting: Feeds = {}
    for name, value in feeds.items():
        if name in inputs:
            one_for_all = tuple(inputs[name]) == (1,) or len(inputs[name]) < value.ndim
            fitting[name] = _one_for_all(name, value, path) if one_for_all else value
            if len(inputs[name]) < value.ndim:
                fitting[name] = fitting[name][0]
        elif (value != OFF[name]).any():
            raise ValueError(f"{path} has no input {name}: export it again")
    return fitting


def _one_for_all(name: str, value: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if (value != value[0]).any():
        raise ValueError(f"{path} has one {name} for all prompts, got {np.unique(value).tolist()}: export it again")
    return value[:1]
