"""The command line: `gptloop export` and `gptloop inspect`. Parses and prints; the work is elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 on success, 2 with one line on stderr where the input is at fault."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError) as error:
        print("gptloop: error:", *str(error).split(), file=sys.stderr)  # on one line, whatever libraries say
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gptloop", description="GPT-2 as one ONNX graph that generates text")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="write a checkpoint as one ONNX model that generates")
    export.add_argument("model", metavar="MODEL", help="a hub id, a local directory, or with --random-weights a size")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    export.add_argument("--precision", default="fp32", help="precision of the weights (default: fp32)")
    export.add_argument("--single-file", action="store_true", help="weights inside the .onnx file, up to 2 GB")
    export.add_argument("--random-weights", action="store_true", help="seeded weights of a named size, no network")
    export.set_defaults(run=_export)

    inspect = commands.add_parser("inspect", help="print a model file's metadata, sizes and node counts")
    inspect.add_argument("file", type=Path, metavar="FILE")
    inspect.set_defaults(run=_inspect)
    return parser


def _export(options: argparse.Namespace) -> None:
    from gptloop.checkpoint import open_checkpoint, random_checkpoint  # noqa: PLC0415  (inspect needs no torch)
    from gptloop.exporter import export  # noqa: PLC0415

    checkpoint = (random_checkpoint if options.random_weights else open_checkpoint)(options.model)
    with tqdm(desc="writing tensors", unit="", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        export(
            checkpoint,
            options.output,
            precision=options.precision,
            single_file=options.single_file,
            progress=show,
        )
    print(options.output)


def _inspect(options: argparse.Namespace) -> None:
    from gptloop.inspect import inspect, render  # noqa: PLC0415

    print(render(inspect(options.file)))


if __name__ == "__main__":
    sys.exit(main())
