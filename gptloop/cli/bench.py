"""`gptloop bench`: how fast a model file is on this machine."""

from __future__ import annotations

import argparse
import sys

from gptloop.cli.options import add_device, add_file
from gptloop.console import printable, strict_json


def add_bench(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add_file(parser)
    # By another name than the texts of other commands.
    add("--prompts", dest="prompt_count", type=int, metavar="B", help="time this many prompts only")
    add("-n", "--num-return-sequences", type=int, metavar="R", help="time this many candidates of a prompt only")
    add("--prompt-len", type=int, metavar="P", help="tokens of a prompt (default: 36 and 512)")
    add("--max-new-tokens", type=int, metavar="N", help="new tokens of a row (default: 36)")
    add_device(parser)
    add("--budget", type=float, default=60.0, metavar="SECONDS", help="how long it may take (default: 60)")
    add("--json", action="store_true", help="print one JSON object, too, on the last line")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Measure and print; on a terminal, say what is being done."""
    from gptloop.bench.measure import bench  # noqa: PLC0415  (export does not need ONNX Runtime)
    from gptloop.bench.table import render  # noqa: PLC0415

    def say(what: str) -> None:
        if sys.stderr.isatty():
            print(f"gptloop: {printable(what)}", file=sys.stderr)

    result = bench(
        options.file,
        device=options.device,
        threads=options.threads,
        budget_s=options.budget,
        say=say,
        prompts=options.prompt_count,
        num_return_sequences=options.num_return_sequences,
        prompt_len=options.prompt_len,
        max_new_tokens=options.max_new_tokens,
    )
    print(render(result))
    if options.json:
        print(strict_json(result.to_dict()))
