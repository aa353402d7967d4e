"""One timed call. Knows nothing of what is called."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call, the garbage collector held back."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    finally:
        gc.enable()
