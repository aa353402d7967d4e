"""From a window of prompts to batches: prompts as token ids, each with its seed, those of one padded length together.

A plan depends on the prompts and the settings only, so that whoever makes it again makes the same.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from gptloop import names
from gptloop.batch.prompts import Window, parse
from gptloop.runtime.batches import of_padded_length, padded_length
from gptloop.runtime.completer import Completer

Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a result, beside the model and the prompt.

    Attributes:
        seed: Of the first prompt; the next has seed + 1, and so on.
        sampling: Arguments of `gptloop.runtime.completer.Completer.complete_at_once`.
        truncate: Whether the start is cut off a prompt that is too long.
        window: How many prompts are planned together.
    """

    seed: int
    sampling: dict[str, Any]
    truncate: bool
    window: int


class Item(NamedTuple):
    """A prompt, ready to generate.

    Attributes:
        number: Of the prompt in its file, from 0.
        record: Its result, without the candidates; complete where there is an error in it.
    """

    number: int
    record: Record


class Batch(NamedTuple):
    """Prompts that one call generates, or that none does: those with an error.

    Attributes:
        window: The number of its window.
        number: Its own in the window, from 0.
        of: How many batches the window has.
        sha256: Of the window.
        padded_length: 0 where there is nothing to generate.
        items: Its prompts.
    """

    window: int
    number: int
    of: int
    sha256: str
    padded_length: int
    items: list[Item]


class Planner:
    """Makes batches of windows.

    Args:
        completer: The model.
        settings: Of the run.

    Raises:
        ValueError: If the settings are wrong in themselves.
    """

    def __init__(self, completer: Completer, settings: Settings):
        completer.check_settings(seed=settings.seed, **settings.sampling)
        self._completer, self._settings = completer, settings
        self._room = completer.loop.bounds.n_positions - settings.sampling["max_new_tokens"]

    def batches(self, window: Window) -> list[Batch]:
        """A window's batches, the longest prompts first, and before them one of the prompts with an error."""
        items = [
            Item(window.first + index, self._record(window.first + index, line))
            for index, line in enumerate(window.lines)
        ]
        good = [item for item in items if "error" not in item.record]
        lengths = [len(item.record["prompt_ids"]) for item in good]
        candidates = self._settings.sampling["num_return_sequences"]
        cut = [
            (padded_length(lengths[numbers[0]], self._room), [good[number] for number in numbers])
            for numbers in of_padded_length(lengths, candidates=candidates, at_most=self._room)
        ]
        if bad := [item for item in items if "error" in item.record]:
            cut.insert(0, (0, bad))
        sha256 = window.sha256()
        return [Batch(window.number, number, len(cut), sha256, *batch) for number, batch in enumerate(cut)]

    def _record(self, number: int, line: bytes) -> Record:
        completer, settings, seed = self._completer, self._settings, self._settings.seed + number
        try:
            prompt = parse(line)
        except ValueError as error:
            return {"error": str(error)}
        if prompt.text is not None:
            _ = completer.tokenizer  # that there is none is no prompt's fault
        try:
            ids = prompt.ids if prompt.text is None else completer.encode_one("prompt", prompt.text)
            if settings.truncate:
                ids = list(completer.truncate_left([ids], settings.sampling["max_new_tokens"])[0])
            completer.check(ids, seed=seed, **settings.sampling)
        except ValueError as error:
            return {"error": str(error)}
        text = {} if prompt.text is None else {"prompt": prompt.text}
        return {**text, "prompt_ids": ids, "seed": seed}


def generated(completer: Completer, sampling: dict[str, Any], batch: Batch) -> list[Record]:
    """The complete records of a batch."""
    records = [item.record for item in batch.items]
    if not batch.padded_length:
        return records
    of_each = completer.complete_at_once(
        [record["prompt_ids"] for record in records],
        seeds=[record["seed"] for record in records],
        decode=names.META_TOKENIZER in completer.loop.metadata,
        padded_length=batch.padded_length,
        **sampling,
    )
    return [
        {**record, "candidates": [candidate.facts() for candidate in candidates]}
        for record, candidates in zip(records, of_each, strict=True)
    ]
