"""`gptloop evaluate`: what a model file's precision costs on a text, against its source."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gptloop.cli.options import add_file, hinted
from gptloop.console import strict_json
from gptloop.runtime.refusals import NoTokenizerError


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add_file(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--text", type=Path, metavar="FILE", help="a text in UTF-8, for the tokenizer beside the model")
    given.add_argument("--ids", type=Path, metavar="FILE", help="token ids, separated by spaces, commas or lines")
    parser.add_argument("--source", metavar="MODEL", help="the checkpoint it was made from (default: as it says)")
    parser.add_argument("--window", type=int, metavar="N", help="tokens scored at a time (default: n_positions)")
    parser.add_argument("--by-layer", action="store_true", help="what each product loses, of the text's first tokens")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    from gptloop.reference import by_layer  # noqa: PLC0415
    from gptloop.reference.evaluate import SourceError, evaluate, render, source_of  # noqa: PLC0415
    from gptloop.reference.texts import read_ids, read_text  # noqa: PLC0415

    with hinted(NoTokenizerError, ": --ids FILE"):
        ids = read_ids(options.ids) if options.ids else read_text(options.file, options.text)
    with hinted(SourceError, "; --source MODEL names another place"):
        source = options.source or source_of(options.file)
    evaluation = evaluate(options.file, source, ids, options.window or 0)
    errors = by_layer.errors_by_layer(options.file, source, ids) if options.by_layer else []
    if options.json:
        losses = {"by_layer": dict(errors)} if errors else {}
        print(strict_json({**evaluation.to_dict(), **losses}))
    else:
        print(render(evaluation))
        if errors:
            print("error of each product, relative to its output:", by_layer.render(errors), sep="\n")
    if missed := by_layer.missed_bound(options.file, evaluation):
        print(f"gptloop: {missed}{'' if errors else '; --by-layer shows where it is lost'}", file=sys.stderr)
