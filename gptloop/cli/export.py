"""`gptloop export`: a checkpoint as one ONNX model that generates."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gptloop import names
from gptloop.console import printable
from gptloop.ending import ended_by

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gptloop.checkpoint import Checkpoint


def add_export(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="a hub id, a local directory, or with --random-weights a size")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the .onnx file to write")
    parser.add_argument("--precision", default="fp32", help=f"{', '.join(names.PRECISIONS)} (default: fp32)")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--calibrate", type=Path, metavar="FILE", help="for int8, a text in UTF-8 that shows the ranges")
    text.add_argument("--calibrate-ids", type=Path, metavar="FILE", help="the same as token ids")
    parser.add_argument("--single-file", action="store_true", help="weights inside the .onnx file, up to 2 GB")
    parser.add_argument("--random-weights", action="store_true", help="seeded weights of a named size, no network")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Export."""
    # A signal would otherwise leave the unfinished files to the next export.
    with ended_by(signal.SIGTERM, signal.SIGHUP):
        _export(options)
    print(printable(str(options.output)))


def _export(options: argparse.Namespace) -> None:
    from tqdm import tqdm  # noqa: PLC0415  (each command imports what it needs)

    from gptloop.checkpoint import open_checkpoint, random_checkpoint  # noqa: PLC0415  (inspect needs no torch)
    from gptloop.exporter.export import export  # noqa: PLC0415

    checkpoint = (random_checkpoint if options.random_weights else open_checkpoint)(options.model)
    with tqdm(desc="writing tensors", unit="", disable=not sys.stderr.isatty()) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        export(
            checkpoint,
            options.output,
            precision=options.precision,
            calibration=_calibration(options, checkpoint),
            single_file=options.single_file,
            progress=show,
        )


def _calibration(options: argparse.Namespace, checkpoint: Checkpoint) -> npt.NDArray[np.int64] | None:
    from gptloop.reference.texts import read_ids, text_ids  # noqa: PLC0415

    if options.calibrate_ids:
        return read_ids(options.calibrate_ids)
    if not options.calibrate:
        return None
    from tokenizers import Tokenizer  # noqa: PLC0415

    from gptloop.checkpoint.tokenizer import read_tokenizer  # noqa: PLC0415

    tokenizer = checkpoint.directory and read_tokenizer(checkpoint.directory, checkpoint.config.vocab_size)
    if not tokenizer:
        raise ValueError(
            f"{checkpoint.source} has no tokenizer and takes token ids instead of text: --calibrate-ids FILE"
        )
    return text_ids(Tokenizer.from_buffer(tokenizer), options.calibrate)
