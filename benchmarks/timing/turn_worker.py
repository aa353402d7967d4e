"""One side of a comparison in a process of its own: it loads, and is timed when its turn comes.

Run by `benchmarks.gate.process` as a file, with another tree's `gptloop` on PYTHONPATH perhaps: so it imports nothing
of `benchmarks`, and of gptloop only what every revision has (`export`, `OnnxLoop`, `TorchLoop`). Reads one JSON object
a line from standard input, and answers each with one line.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

QUIET_WITHIN_S = 1.0


class Worker:
    """What this process holds, and the requests it answers, a method each."""

    def __init__(self) -> None:
        self._calls: dict[str, Callable[[], Any]] = {}
        self._plain_s: dict[str, list[float]] = {}

    def hello(self) -> dict[str, Any]:
        """Whose gptloop this is."""
        import gptloop  # noqa: PLC0415

        return {"gptloop": gptloop.__file__}

    def export(self, checkpoint: str, path: str, precision: str) -> dict[str, Any]:
        import gptloop  # noqa: PLC0415

        gptloop.export(checkpoint, path, precision=precision)
        return {}

    def load(
        self, key: str, path: str, *, torch: bool, device: str, threads: int, ids: list[Any], arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """Load, and call once: the answer holds the tokens, to be compared before anything is timed."""
        import gptloop  # noqa: PLC0415

        loop: Any
        if torch:
            import torch as torch_  # noqa: PLC0415

            torch_.set_num_threads(threads)
            loop = gptloop.TorchLoop(path, device=device)
        else:
            loop = gptloop.OnnxLoop(path, device=device, threads=threads)
        prompts = np.array(ids)
        self._calls[key] = lambda: loop.generate(prompts, **arguments)
        self._plain_s[key] = []
        return {"tokens": self._calls[key]().tolist()}

    def turn(self, key: str, slower: float = 0.0) -> dict[str, Any]:
        """One timed call, with real work added inside that takes a fraction of a usual call, if asked.

        Ends when the process's threads rest.
        """
        added_s = slower * statistics.median(self._plain_s[key]) if slower else 0.0
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        self._calls[key]()
        called = time.perf_counter()
        if slower:
            multiply(until=called + added_s)
        end = time.perf_counter()
        gc.enable()
        if not slower:
            self._plain_s[key].append(end - start)
        return {"seconds": end - start, "added_s": end - called if slower else 0.0, "busy_s": rest()}


def rest() -> float:
    """Wait until this process's threads no longer spin, so that the other side has the cores to itself.

    ONNX Runtime's and OpenMP's threads spin for some milliseconds after a call, in hope of another one.

    Returns:
        Seconds until they came to rest.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < QUIET_WITHIN_S:
        used, at = time.process_time(), time.perf_counter()
        time.sleep(0.005)
        if time.process_time() - used < 0.1 * (time.perf_counter() - at):
            break
    return time.perf_counter() - start


SIDE = 48  # below the size from which OpenBLAS starts threads of its own
_A, _OUT = np.full((SIDE, SIDE), 0.5, np.float32), np.empty((SIDE, SIDE), np.float32)


def multiply(until: float) -> None:
    """Small matrix products until a moment of `time.perf_counter`."""
    while time.perf_counter() < until:
        for _ in range(5):  # about 20 us
            np.matmul(_A, _A, out=_OUT)


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # an older revision may lack anything; the other side says what that means
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
