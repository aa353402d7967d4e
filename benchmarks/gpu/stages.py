"""Stages of one long command, each on disk as soon as it is done. Knows nothing of what they do."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.command.ending import say_after
from gptloop.report import write_files


class Stages:
    """Runs stages within the budget, and keeps the record of them on disk.

    Args:
        folder: Where the record and the stages' results go.
        budget_s: Seconds for all of them.
    """

    def __init__(self, folder: Path, budget_s: float):
        self.folder, self._budget_s = folder, budget_s
        self._start = time.monotonic()
        self._records: list[dict[str, Any]] = []

    def run(self, name: str, needs_s: float, stage: Callable[[], Any]) -> None:
        """Run a stage, unless what it needs is more than what is left; write what it returns, if anything."""
        elapsed_s = time.monotonic() - self._start
        if elapsed_s + needs_s > self._budget_s:
            left_s = self._budget_s - elapsed_s
            self._note(name, "skipped", f"{left_s:.0f} s of the budget were left, it needs about {needs_s:.0f} s", 0.0)
            return
        say(f"== {name} ==")
        outcome, note = "done", ""
        try:
            if (result := stage()) is not None:
                write_json(self.folder / f"{name}.json", result)
        except Exception as error:  # what one stage meets must not take the others' measurements
            traceback.print_exc()
            outcome, note = "failed", f"{type(error).__name__}: {error}"
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._note(name, outcome, note, time.monotonic() - self._start - elapsed_s)

    @property
    def failed(self) -> list[str]:
        """Names of the stages that failed."""
        return [record["stage"] for record in self._records if record["outcome"] == "failed"]

    def _note(self, name: str, outcome: str, note: str, seconds: float) -> None:
        say(f"{name}: {outcome} after {seconds:.0f} s {note}")
        self._records.append({"stage": name, "outcome": outcome, "note": note, "seconds": round(seconds, 1)})
        write_json(self.folder / "stages.json", self._records)


def write_json(path: Path, content: Any) -> None:
    """Whole or not at all."""
    write_files(path.parent, {path.name: (json.dumps(content, indent=1) + "\n").encode()})


say = say_after(time.monotonic())
