"""How far a run is, and when it will end: a bar on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

LINE_EVERY_S = 60


class Progress:
    """Shows how many prompts are finished.

    Args:
        finished: Those of runs before.
        total: All there are.
    """

    def __init__(self, finished: int, total: int):
        # From the start of this run, not of late: the longest prompts of a window come first.
        self._bar = tqdm(initial=finished, total=total, unit="prompt", smoothing=0, disable=None)
        self._before, self._finished, self._total = finished, finished, total
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.close()

    def add(self, prompts: int) -> None:
        """So many more are finished."""
        self._finished += prompts
        self._bar.update(prompts)
        now = time.monotonic()
        if self._bar.disable and now - self._last >= LINE_EVERY_S:
            self._last = now
            self.say(
                tqdm.format_meter(
                    self._finished, self._total, now - self._start, ncols=0, unit="prompt", initial=self._before
                )
            )

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        tqdm.write(f"gptloop: {text}", file=sys.stderr)
