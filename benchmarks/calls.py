"""`python -m benchmarks.calls`: the same tokens asked for in several ways.

Streamed in blocks against in one call; prompts of unequal lengths sorted by length against in the order of the input.
gpt2 with seeded random weights, interleaved rounds. Writes one JSON file with all rounds; seven minutes on two cores,
and twice that with `--precision fp32`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.command.checkout import ROOT, commit_info
from benchmarks.contenders import arguments, prompt_ids
from benchmarks.machine.cores import core_pass
from benchmarks.machine.description import facts
from benchmarks.timing.clocks import interleave
from benchmarks.workloads import CANDIDATES, ONE_ROW, PROMPTS, Workload
from gptloop import OnnxLoop, export
from gptloop.checkpoint.seeded import random_model
from gptloop.report.disk import write_files
from gptloop.runtime.batches import ROWS, left_padded
from gptloop.runtime.completer import Completer

BLOCKS = (1, 4, 8, 32)
FIRST_BLOCK = "first block of 8, one row"
STREAMED = ((ONE_ROW, 15), (PROMPTS, 9), (CANDIDATES, 5))  # with the rounds of each
RAGGED_PROMPTS, SHORTEST, LONGEST, RAGGED_NEW, RAGGED_ROUNDS = 256, 8, 500, 32, 2

Call = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Ways to ask for the same tokens; the first is what the others are compared with."""

    name: str
    rounds: int
    ways: Mapping[str, Call]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calls", description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    parser.add_argument("--precision", choices=("fp32", "int8"), default="int8", help="of the model (default: int8)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of one product")
    parser.add_argument("--size", default="gpt2", help="a published size (default: gpt2)")
    parser.add_argument("--rounds", type=int, help="of every case, instead of its own number")
    parser.add_argument("--streams", action="store_true", help="measure the streams only: three minutes")
    options = parser.parse_args()
    if not options.output.parent.is_dir():  # said before the minutes that it takes
        parser.error(f"no such folder: {options.output.parent}")
    torch.set_num_threads(options.threads)  # which `facts` reads
    commit = commit_info(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        path = export(random_model(options.size), Path(folder) / "model.onnx", precision=options.precision)
        loop = OnnxLoop(path, device="cpu", threads=options.threads)
        measured = streamed(loop) if options.streams else [*streamed(loop), ragged_prompts(loop)]
        rows = [row for case in measured for row in measure(case, options.rounds or case.rounds)]
    what = {"size": options.size, "weights": "random", "precision": options.precision}
    saved = {"gptloop_kind": "calls", "machine": facts(), "commit": commit, **what, "rows": rows}
    write_files(options.output.parent, {options.output.name: (json.dumps(saved, indent=1) + "\n").encode()})
    print("\n".join(table(rows)))


def streamed(loop: OnnxLoop) -> Iterator[Case]:
    """Blocks against one call."""
    for workload, rounds in STREAMED:
        ids = prompt_ids(workload, loop.bounds.vocab_size)
        yield Case(workload.title, rounds, streams(loop, ids, workload))
    yield Case(FIRST_BLOCK, 2 * STREAMED[0][1], first_block(loop, prompt_ids(ONE_ROW, loop.bounds.vocab_size)))


def ragged_prompts(loop: OnnxLoop) -> Case:
    """Sorted by length against in the order of the input."""
    return Case(f"{RAGGED_PROMPTS} prompts of {SHORTEST} to {LONGEST} tokens", RAGGED_ROUNDS, ragged(loop))


def streams(loop: OnnxLoop, ids: np.ndarray[Any, Any], workload: Workload) -> dict[str, Call]:
    """A workload in one call, and in blocks."""
    call = arguments(workload, workload.max_new_tokens, greedy=False)

    def streamed(block: int) -> Call:
        return lambda: list(loop.stream(ids, block=block, **call))

    return {"generate": lambda: loop.generate(ids, **call)} | {f"block {k}": streamed(k) for k in BLOCKS}


def first_block(loop: OnnxLoop, ids: np.ndarray[Any, Any]) -> dict[str, Call]:
    """The first block of 8 of a stream, and the calls that say what TTFT and seven tokens take."""
    call = arguments(ONE_ROW, ONE_ROW.max_new_tokens, greedy=False)
    return {
        "one token": lambda: loop.generate(ids, **call | {"max_new_tokens": 1}),
        "all tokens": lambda: loop.generate(ids, **call),
        "block 8": lambda: next(loop.stream(ids, block=8, **call)),
    }


def ragged(loop: OnnxLoop) -> dict[str, Call]:
    """Prompts of unequal lengths, as many at once as there may be rows, and as `Completer` puts them together."""
    rng = np.random.default_rng(0)
    lengths = rng.permutation(np.linspace(SHORTEST, LONGEST, RAGGED_PROMPTS).round().astype(int))
    prompts = [rng.integers(0, loop.bounds.vocab_size, length).tolist() for length in lengths]
    call: dict[str, Any] = {"max_new_tokens": RAGGED_NEW, "temperature": 1.0, "top_k": 50, "seed": 0}

    def in_order() -> None:
        for start in range(0, len(prompts), ROWS):
            ids, mask = left_padded(prompts[start : start + ROWS])
            loop.generate(ids, attention_mask=mask, **call | {"seed": start})

    return {"in input order": in_order, "sorted": lambda: list(Completer(loop).complete(prompts, decode=False, **call))}


def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    """A row for each way, with its rounds."""
    for way in case.ways.values():
        way()
    times, _ = interleave(case.ways, rounds, core_pass)
    return [{"case": case.name, "way": way, "rounds_s": seconds} for way, seconds in times.items()]


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each way's median, and its rounds over those of its case's first way: median and quartiles."""
    first: dict[str, list[float]] = {}
    for row in rows:
        seconds = row["rounds_s"]
        ratios = [own / other for own, other in zip(seconds, first.setdefault(row["case"], seconds), strict=True)]
        yield f"{row['case']:<34} {row['way']:<16} {statistics.median(seconds):8.3f} s  {_spread(ratios)}"
    if of_block := [np.array(row["rounds_s"]) for row in rows if row["case"] == FIRST_BLOCK]:
        one, every, block = of_block
        allowed = one + 7 * (every - one) / (ONE_ROW.max_new_tokens - 1)
        yield f"{FIRST_BLOCK:<34} {'over TTFT and seven tokens':<27}  {_spread(block / allowed)}"


def _spread(ratios: Sequence[float] | npt.NDArray[np.float64]) -> str:
    """Median and quartiles."""
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return f"{middle:.3f} [{low:.2f}-{high:.2f}]"


if __name__ == "__main__":
    main()
