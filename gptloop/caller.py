"""A warning about a user's call names the line of that call, however many of gptloop's own functions stand between."""

from __future__ import annotations

import itertools
import sys
import warnings

PACKAGE = __name__.partition(".")[0]


def warn_caller(text: str) -> None:
    """Warn of something in the innermost call that comes from outside of gptloop."""
    frame = sys._getframe()
    for level in itertools.count(1):
        if frame.f_globals.get("__name__", "").partition(".")[0] != PACKAGE or frame.f_back is None:
            return warnings.warn(text, stacklevel=level)
        frame = frame.f_back
