"""`gptloop inspect`: a model file's metadata, sizes and node counts."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--verify", action="store_true", help="compare all of its files with the hashes of the export")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Read and print."""
    from gptloop.exporter.inspect import inspect  # noqa: PLC0415
    from gptloop.exporter.structure_text import render  # noqa: PLC0415

    print(render(inspect(options.file, verify=options.verify)))
    if options.verify:
        print("content: as it was exported")
