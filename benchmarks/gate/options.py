"""Options that the commands which judge have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.command.checkout import ROOT


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Where this machine's noise is known from, and whether the models are tiny."""
    parser.add_argument(
        "--calibrations",
        type=Path,
        default=ROOT / "reports",
        metavar="FOLDER",
        help="where `benchmarks.prove` saved what this machine's noise is (default: reports/)",
    )
    parser.add_argument("--smoke", action="store_true", help="tiny models: try the command, the times mean nothing")
