"""`gptloop serve-config`: a model repository for Triton of an exported model."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from gptloop.ending import ended_by


def add_serve_config(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the .onnx file that gptloop export wrote")
    add("-o", "--output", type=Path, required=True, metavar="REPOSITORY", help="the folder of models to add it to")
    add("--name", default="gpt2", help="what clients call the model (default: gpt2)")
    add("--max-batch-size", type=int, default=16, metavar="N", help="prompts of one call at most (default: 16)")
    add("--device", default="cpu", choices=("cpu", "cuda"), help="where Triton runs it (default: cpu)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Write, and say what."""
    from gptloop.serving import add_to_repository  # noqa: PLC0415  (each command imports what it needs)

    with ended_by(signal.SIGTERM, signal.SIGHUP):
        version = add_to_repository(
            options.file,
            options.output,
            name=options.name,
            max_batch_size=options.max_batch_size,
            device=options.device,
        )
    print(f"{version} is there: tritonserver --model-repository={options.output}")
