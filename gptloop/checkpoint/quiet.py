"""transformers without its own log lines, where gptloop says itself what is wrong."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from transformers.utils.logging import get_verbosity, set_verbosity


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Have transformers log nothing inside the block."""
    verbosity = get_verbosity()
    set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        set_verbosity(verbosity)
