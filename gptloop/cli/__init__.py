"""The command line: `gptloop` with the name of a command.

Parses and prints; the work is elsewhere. One module a command. Exit codes are those of `gptloop.ending`: 0 on success,
and when the reader of standard output leaves.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib import metadata

from gptloop import ending
from gptloop.cli.batch import add_batch
from gptloop.cli.bench import add_bench
from gptloop.cli.evaluate import add_evaluate
from gptloop.cli.export import add_export
from gptloop.cli.generate import add_generate
from gptloop.cli.inspect import add_inspect
from gptloop.cli.serve_config import add_serve_config
from gptloop.cli.web import add_web
from gptloop.console import reader_may_leave


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code, as `ending` has them."""
    # ONNX Runtime (1.32) would write a device id and what the machine is to the user's cache when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

    def command() -> int:
        with reader_may_leave():
            options = _parse(arguments)
            options.run(options)
        return 0

    return ending.run("gptloop", command)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, and prompts wherever they stand: argparse leaves those over that stand behind an option."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    literal_from = rest.index("--") if "--" in rest else len(rest)
    prompts, literal = rest[:literal_from], rest[literal_from + 1 :]
    unknown = [prompt for prompt in prompts if prompt.startswith("-") and prompt != "-" and " " not in prompt]
    if rest and "prompts" not in options:
        unknown = rest
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.prompts += prompts + literal
    return options


def _parser() -> ending.Parser:
    parser = ending.Parser(prog="gptloop", description="GPT-2 as one ONNX graph that generates text")
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('gptloop')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_export(commands.add_parser("export", help="write a checkpoint as one ONNX model that generates"))
    add_generate(commands.add_parser("generate", help="continue texts with an exported model"))
    add_batch(commands.add_parser("batch", help="continue every prompt of a file, on one machine or many"))
    add_bench(commands.add_parser("bench", help="how fast a model file is on this machine, in a minute"))
    add_evaluate(
        commands.add_parser("evaluate", help="what a model file's precision costs on a text, against its source")
    )
    add_inspect(commands.add_parser("inspect", help="print a model file's metadata, sizes and node counts"))
    add_serve_config(commands.add_parser("serve-config", help="write a model repository for Triton's ONNX Runtime"))
    add_web(commands.add_parser("web", help="serve a model file to this machine's browser, which runs it"))
    return parser
