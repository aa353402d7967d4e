"""The workers of a Ray cluster: an actor each, with the model of its own, that is handed a batch after the other.

Plain actors, not Ray Data: what is finished has to be kept batch by batch, in a journal that a later run goes on from,
and Ray Data (2.60) has no such checkpoints, reads and writes files of its own, and needs pandas and pyarrow on every
machine. A worker that is lost with its machine is not replaced: the others get its batches.

Source: Ray's documentation of actors, "Actor fault tolerance".
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gptloop import names
from gptloop.batch.plan import Batch, Record, generated

START_S = 60  # or the first to load would take all batches of a small file
AHEAD = 2  # batches that a worker has, so that it need not wait for the next one
Say = Callable[[str], None]


class Worker:
    """What runs in an actor.

    Args:
        path: The model, a path on the worker's machine.
        graph_sha256: The graph's hash, as the machine that plans has it.
        sampling: As `gptloop.batch.plan.Settings`.
        device: As `gptloop.OnnxLoop`, like `threads`.
    """

    def __init__(self, path: Path, graph_sha256: str | None, sampling: dict[str, Any], device: str, threads: int):
        self._path, self._sha256, self._sampling = path, graph_sha256, sampling
        self._device, self._threads = device, threads

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: If the file is another one than where the batches are planned.
        """
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        from gptloop.runtime.completer import Completer  # noqa: PLC0415  (after the line above)
        from gptloop.runtime.onnx_loop import OnnxLoop  # noqa: PLC0415

        self._completer = Completer(OnnxLoop(self._path, device=self._device, threads=self._threads))
        if self._completer.loop.metadata.get(names.META_GRAPH_SHA256) != self._sha256:
            raise ValueError(f"{self._path} is another model there")

    def generated(self, batch: Batch) -> list[Record]:
        """The records of a batch."""
        return generated(self._completer, self._sampling, batch)


class RayWorkers:
    """Makes the records of batches on a cluster.

    Args:
        path: The model; the same path on every machine.
        graph_sha256: As `Worker`.
        sampling: As `Worker`.
        address: The cluster's; None for the one that Ray finds, or one of this machine.
        workers: How many; one for each machine unless given.
        device: As `gptloop.OnnxLoop`.
        threads: CPUs of a worker; an equal share of the smallest machine's unless given.

    Raises:
        ValueError: If Ray is not installed.
    """

    def __init__(
        self,
        path: Path,
        graph_sha256: str | None,
        sampling: dict[str, Any],
        *,
        address: str | None,
        workers: int | None,
        device: str,
        threads: int | None,
    ):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise ValueError("a Ray cluster needs Ray: pip install ray") from error
        self._ray: Any = ray
        self._of_worker = (path, graph_sha256, sampling, device)
        self._address, self._workers, self._threads = address, workers, threads

    def __call__(self, missing: Iterator[Batch], say: Say) -> Iterator[tuple[Batch, list[Record]]]:
        """Batches and their records, in the order in which they are finished.

        Raises:
            ConnectionError: If there is no such cluster, or the last worker is lost.
            ValueError: If the cluster is too small, or what a worker raised.
        """
        try:
            with _signals_kept():
                self._ray.init(address=self._address, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConnectionError(f"no Ray cluster at {self._address or 'this machine'}: {error}") from error
        try:
            yield from self._run(self._start(), missing, say)
        finally:
            self._ray.shutdown()

    def _start(self) -> list[Any]:
        cpus = [int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"]]
        cpus = [number for number in cpus if number]
        workers = self._workers or len(cpus)
        threads = self._threads or max(1, min(cpus, default=0) // math.ceil(workers / max(1, len(cpus))))
        if workers > (room := sum(number // threads for number in cpus)) or not workers:
            raise ValueError(f"workers must be 1 to {room} on this cluster, with {threads} threads each, got {workers}")
        path, graph_sha256, sampling, device = self._of_worker
        actor = self._ray.remote(Worker).options(
            num_cpus=threads, num_gpus=int(device == "cuda"), scheduling_strategy="SPREAD", max_restarts=0
        )
        return [actor.remote(path, graph_sha256, sampling, device, threads) for _ in range(workers)]

    def _run(self, workers: list[Any], missing: Iterator[Batch], say: Say) -> Iterator[tuple[Batch, list[Record]]]:
        running: dict[Any, tuple[Any, Batch | None]] = {worker.open.remote(): (worker, None) for worker in workers}
        alive, idle = set(workers), collections.deque[Any]()
        returned: list[Batch] = []  # by lost workers
        self._ray.wait(list(running), num_returns=len(running), timeout=START_S)
        while True:
            while idle and (batch := returned.pop() if returned else next(missing, None)):
                worker = idle.popleft()
                running[worker.generated.remote(batch)] = worker, batch
            if idle and not any(batch for _, batch in running.values()):
                return
            (finished,), _ = self._ray.wait(list(running))
            worker, batch = running.pop(finished)
            try:
                records = self._result(finished)
            except ConnectionError:
                idle = collections.deque(other for other in idle if other is not worker)
                returned += [batch] if batch else []
                if worker in alive:
                    alive.remove(worker)
                    say(f"a worker is lost, {len(alive)} of {len(workers)} go on")
                if not alive:
                    raise ConnectionError("all workers are lost; started again, it goes on") from None
                continue
            idle.extend([worker] if batch else [worker] * AHEAD)
            if batch:
                yield batch, records

    def _result(self, finished: Any) -> list[Record]:
        """What a worker made.

        Raises:
            ConnectionError: If the worker is lost, or what it made is.
            Exception: What it raised.
        """
        try:
            return list(self._ray.get(finished) or ())
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self._ray.exceptions.RayError as error:
            raise ConnectionError("a worker is lost") from error


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave SIGTERM to whoever handles it: Ray (2.60) ends the process at it, with an exit code that is no signal's."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
