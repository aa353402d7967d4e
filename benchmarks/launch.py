"""How `python -m benchmarks.NAME` starts: its module is imported within `run`, for what is missing is no verdict."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

from benchmarks.command.ending import run


def launch(name: str, module: str) -> NoReturn:
    """Run a module's `main`, and exit with its status.

    Args:
        name: Of the command, for its messages.
        module: Where the work is.
    """
    sys.exit(run(name, lambda: importlib.import_module(module).main()))
