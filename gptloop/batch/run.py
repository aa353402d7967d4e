"""The run: windows of prompts to batches, these to the workers, what they make to the journal, that to the output.

Killed at any moment and started again, it goes on with the batches that the journal lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gptloop import names
from gptloop.batch import prompts, results
from gptloop.batch.journal import SUFFIX, Journal
from gptloop.batch.plan import Batch, Planner, Record, Settings, generated
from gptloop.batch.progress import Progress
from gptloop.runtime import batches
from gptloop.runtime.completer import Completer, fresh_seed
from gptloop.runtime.request import SEED_MAX
from gptloop.values import whole_number

# Makes the records of batches, in any order; has a second argument to say something to whoever watches.
Workers = Callable[[Iterator[Batch], Callable[[str], None]], Iterator[tuple[Batch, list[Record]]]]


class Summary(NamedTuple):
    """What a run has made: prompts, how many of them have an error, and the seed of the first."""

    prompts: int
    errors: int
    seed: int


def run(
    completer: Completer,
    source: Path,
    output: Path,
    workers: Workers,
    *,
    seed: int | None,
    sampling: dict[str, Any],
    truncate: bool = False,
    window: int = prompts.WINDOW,
    strict: bool = False,
) -> Summary:
    """Generate for every prompt of a file; the output is there when all of it is.

    Args:
        completer: The model, to plan with.
        source: JSONL, or Parquet by its name.
        output: Likewise.
        workers: Who generates.
        seed: Of the first prompt; None for that of the run that is gone on with, or a fresh one.
        sampling: As `gptloop.batch.plan.Settings`, like `truncate` and `window`.
        truncate: Whether the start is cut off a prompt that is too long.
        window: How many prompts are planned together.
        strict: Whether a prompt with an error ends the run.

    Raises:
        FileExistsError: If the output is there, and no run to go on with.
        ValueError: If a setting is wrong, or not that of the run that is gone on with; with `strict`, of the first
            prompt with an error.
        OSError: If something cannot be read or written. Started again, the run goes on, as it does after any error.
    """
    results.check_output(output)
    _check_source(source, output)
    total = prompts.count(source)
    with contextlib.closing(Journal(output)) as journal:
        if output.exists() and journal.facts is None:
            raise FileExistsError(f"{output} exists already: remove it, or give another")
        seed = _seed(seed, journal, total)
        settings = Settings(seed, sampling, truncate, window)
        planner = Planner(completer, settings)
        journal.begin(_facts(completer, settings, total))
        with Progress(journal.finished, total) as progress:
            missing = _missing(planner, journal, source, window, strict)
            for batch, records in workers(missing, progress.say):
                journal.add(batch, records)
                progress.add(len(records))
        results.write(journal.records(), output)
        journal.remove()
    return Summary(journal.finished, journal.errors, seed)


def here(completer: Completer, sampling: dict[str, Any]) -> Workers:
    """This process as the only worker."""

    def work(missing: Iterator[Batch], _: Callable[[str], None]) -> Iterator[tuple[Batch, list[Record]]]:
        for batch in missing:
            yield batch, generated(completer, sampling, batch)

    return work


def _check_source(source: Path, output: Path) -> None:
    for suffix in (SUFFIX, results.WRITTEN):
        own = output.with_name(f"{output.name}{suffix}")
        if source.exists() and own.exists() and source.samefile(own):
            raise ValueError(f"{source} cannot be the prompts: it is where results of {output} are kept until the end")


def _seed(given: int | None, journal: Journal, total: int) -> int:
    if given is not None:
        seed = given
    elif journal.facts is None:
        seed = fresh_seed()
    else:
        seed = whole_number(f"the seed in {journal.path}", journal.facts.get("seed"), 0)
    if seed + total - 1 > SEED_MAX:
        raise ValueError(f"seed must be at most 2^63 - {total} for {total} prompts, got {seed}")
    return seed


def _facts(completer: Completer, settings: Settings, total: int) -> dict[str, Any]:
    """What decides the bytes of the output, by the names of the options."""
    metadata = completer.loop.metadata
    hashes = (names.META_GRAPH_SHA256, names.META_DATA_SHA256, names.META_TOKENIZER_SHA256)
    return {
        "number of prompts": total,
        "model": [metadata.get(name) for name in hashes],
        "seed": settings.seed,
        "truncate": settings.truncate,
        "window": settings.window,
        "rows": [batches.ROWS, batches.PROMPT_TOKENS],
        **settings.sampling,
    }


def _missing(planner: Planner, journal: Journal, source: Path, size: int, strict: bool) -> Iterator[Batch]:
    """The batches that the journal lacks, planned when they are asked for."""
    for window in prompts.windows(source, size):
        if journal.has_window(window.number, window.sha256()) and not (strict and journal.errors):
            continue
        for batch in planner.batches(window):
            for item in batch.items:
                if strict and "error" in item.record:
                    raise ValueError(f"{source}, prompt {item.number + 1}: {item.record['error']}")
            if not journal.has(batch):
                yield batch
