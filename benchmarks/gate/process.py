"""A measuring process of one tree, and its ending: however the comparison ends, none is left."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.command.checkout import ROOT

WORKER = ROOT / "benchmarks" / "timing" / "turn_worker.py"


class Process:
    """A `benchmarks.timing.turn_worker` of one tree, or another worker that answers as it does.

    Raises:
        RuntimeError: If it ends before it has answered, with what it said.
    """

    def __init__(self, tree: Path, worker: Path = WORKER):
        with contextlib.ExitStack() as unless_started:
            self._errors = unless_started.enter_context(tempfile.TemporaryFile("w+"))
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(worker)],  # -P: the worker's own folder is not the tree's
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=tree,
                env=os.environ | {"PYTHONPATH": str(tree)},
            )
            unless_started.pop_all()  # `close` closes it

    def __enter__(self) -> Process:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        if raised:
            self.kill()  # rather than wait until it has finished what it was asked for
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, do: str, **request: Any) -> None:
        """Send a request; processes may be at work on theirs at the same time."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `receive` says why
            print(json.dumps({"do": do, **request}), file=self._process.stdin, flush=True)

    def receive(self) -> dict[str, Any]:
        """The answer to the oldest request without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"a measuring process ended with {code}:\n{self._errors.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.send(do, **request)
        return self.receive()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait()
        self._errors.close()


@contextlib.contextmanager
def processes(trees: Mapping[str, Path], worker: Path = WORKER) -> Iterator[dict[str, Process]]:
    """A fresh process of each tree, ended on leaving."""
    with contextlib.ExitStack() as stack:
        started = {name: stack.enter_context(Process(tree, worker)) for name, tree in trees.items()}
        for process in started.values():
            process.send("hello")
        for name, process in started.items():
            answer = process.receive()
            if not Path(answer.get("gptloop", "")).resolve().is_relative_to(trees[name].resolve()):
                raise RuntimeError(f"{name}: gptloop of {trees[name]} was expected, got {answer}")
        yield started
