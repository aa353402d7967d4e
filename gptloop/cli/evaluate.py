"""`gptloop evaluate`: what a model file's precision costs on a text, against its source."""

from __future__ import annotations

import argparse
from pathlib import Path

from gptloop.cli.export import check_docstrings
from gptloop.console import strict_json


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", type=Path, metavar="FILE", help="a text in UTF-8, for the tokenizer beside the model")
    given.add_argument("--ids", type=Path, metavar="FILE", help="token ids, separated by spaces, commas or lines")
    parser.add_argument("--source", metavar="MODEL", help="the checkpoint it was made from (default: as it says)")
    parser.add_argument("--window", type=int, metavar="N", help="tokens scored at a time (default: n_positions)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    check_docstrings()
    from gptloop.reference.evaluate import evaluate, read_ids, read_text, render, source_of  # noqa: PLC0415

    ids = read_ids(options.ids) if options.ids else read_text(options.file, options.text)
    source = options.source or source_of(options.file)
    evaluation = evaluate(options.file, source, ids, options.window or 0)
    print(strict_json(evaluation.to_dict()) if options.json else render(evaluation))
