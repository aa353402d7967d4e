"""`gptloop batch`: continues every prompt of a file, and goes on where it was when it is started again."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptloop import names
from gptloop.batch.prompts import WINDOW
from gptloop.cli.options import SETTINGS, add_device, add_ends, add_file, add_sampling, hinted, stop_texts
from gptloop.ending import ended_by
from gptloop.runtime.refusals import NoTokenizerError
from gptloop.values import whole_number

if TYPE_CHECKING:
    from gptloop.batch.run import Workers
    from gptloop.runtime.completer import Completer

ANY = ""  # the cluster that Ray finds, or one of this machine


def add_batch(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add_file(parser)
    add("source", type=Path, metavar="PROMPTS", help='JSONL, {"prompt": TEXT} or {"ids": [1, 2, 3]} a line; or Parquet')
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="the results, as JSONL or Parquet by its name")
    add("--strict", action="store_true", help="end at the first prompt with an error, instead of recording it")
    add("--truncate", choices=("left",), help="cut the start off a prompt that is too long, instead of an error")
    add("--window", type=int, default=WINDOW, metavar="N", help=f"prompts that are sorted together (default: {WINDOW})")
    add_device(parser)
    ray = parser.add_argument_group("many machines")
    ray.add_argument("--ray", nargs="?", const=ANY, metavar="ADDRESS", help="run on a Ray cluster (default: any found)")
    ray.add_argument("--workers", type=int, metavar="N", help="with --ray (default: one for each machine)")
    add_ends(parser)
    add_sampling(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Generate, and say how it went."""
    from gptloop.batch.run import run as run_batches  # noqa: PLC0415  (export does not need ONNX Runtime)
    from gptloop.runtime.completer import Completer  # noqa: PLC0415
    from gptloop.runtime.onnx_loop import OnnxLoop  # noqa: PLC0415

    whole_number("window", options.window, 1)
    if options.workers is not None and options.ray is None:
        raise ValueError(f"workers {options.workers} needs --ray")
    only_plans = options.ray is not None
    device, threads = ("cpu", 1) if only_plans else (options.device, options.threads)
    loop = OnnxLoop(options.file, device=device, threads=threads, prepack=not only_plans, huge_pages=not only_plans)
    completer = Completer(loop)
    sampling = {name: getattr(options, name) for name in SETTINGS if name in options}
    sampling = {"num_return_sequences": 1, **sampling}
    if options.stop:
        sampling["stop"] = stop_texts(options)
    sampling["eos_token_id"] = [] if options.no_eos else completer.eos_token_ids
    hint = f': "ids" instead of "prompt" in {options.source}'
    with ended_by(signal.SIGTERM), hinted(NoTokenizerError, hint):
        summary = run_batches(
            completer,
            options.source,
            options.output,
            _workers(options, completer, sampling),
            seed=options.seed,
            sampling=sampling,
            truncate=options.truncate is not None,
            window=options.window,
            strict=options.strict,
        )
    errors = f", {summary.errors:,} of them with an error" if summary.errors else ""
    print(f"gptloop: {summary.prompts:,} prompts{errors}, seed {summary.seed}: {options.output}", file=sys.stderr)


def _workers(options: argparse.Namespace, completer: Completer, sampling: dict[str, Any]) -> Workers:
    if options.ray is None:
        from gptloop.batch.run import here  # noqa: PLC0415  (as above)

        return here(completer, sampling)
    from gptloop.batch.ray_workers import RayWorkers  # noqa: PLC0415

    return RayWorkers(
        options.file.absolute(),
        completer.loop.metadata.get(names.META_GRAPH_SHA256),
        sampling,
        address=options.ray or None,
        workers=options.workers,
        device=options.device,
        threads=options.threads,
    )
