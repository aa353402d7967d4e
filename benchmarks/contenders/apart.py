"""A contender in a process of its own, behind the same call: for a library whose threads disturb others in its process.

The call waits for the answer, so that its time is the contender's, and some tenths of a millisecond.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import Contender, Tokens
from benchmarks.timing.turn_worker import rest
from benchmarks.workloads import Workload
from gptloop.runtime.huge_pages import on_huge_pages


class Apart:
    """What a function loads, elsewhere, until this object is closed; nothing is left if loading fails.

    Args:
        load: A function of a module, or a class.
        arguments: Its arguments, which can be pickled.
        huge_pages: Whether to move what is loaded to huge pages.

    Raises:
        Exception: What loading raised.
    """

    def __init__(self, load: Callable[..., Contender], *arguments: Any, huge_pages: bool):
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, load, arguments, huge_pages), daemon=True)
        with contextlib.ExitStack() as unless_loaded:
            unless_loaded.callback(self._pipe.close)
            with there:
                self._process.start()
            unless_loaded.push(self)
            self._answer()
            unless_loaded.pop_all()

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        if raised:
            self._process.kill()  # rather than wait until it has finished what it was asked for
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's number."""
        return self._process.pid

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `benchmarks.contenders.Contender`."""
        tokens: Tokens = self._ask("generate", ids, workload, max_new_tokens=max_new_tokens, greedy=greedy)
        return tokens

    def score(self, ids: Tokens) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """As `gptloop.reference.evaluate.Scorer`."""
        scored: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]] = self._ask("score", ids)
        return scored

    def rest(self) -> None:
        """Wait until the process's threads no longer spin."""
        self._ask("rest")

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        with contextlib.suppress(OSError):  # which the answer explains
            self._pipe.send((method, arguments, options))
        return self._answer()

    def _answer(self) -> Any:
        try:
            result, error = self._pipe.recv()
        except (EOFError, OSError) as ended:
            self._process.join()
            raise RuntimeError(f"the contender's process ended with {self._process.exitcode}") from ended
        if error is not None:
            raise error
        return result


def _serve(pipe: Connection, load: Callable[..., Contender], arguments: tuple[Any, ...], huge_pages: bool) -> None:
    """Load, then answer until the other end is closed."""
    try:
        with on_huge_pages(wanted=huge_pages):
            contender = load(*arguments)
    except Exception as error:
        _send(pipe, None, error)
        return
    _send(pipe, None, None)
    while True:
        try:
            method, given, options = pipe.recv()
        except EOFError:
            return
        try:
            result = rest() if method == "rest" else getattr(contender, method)(*given, **options)
        except Exception as error:
            _send(pipe, None, error)
        else:
            _send(pipe, result, None)


def _send(pipe: Connection, result: Any, error: Exception | None) -> None:
    try:
        pipe.send((result, error))
    except Exception:  # an error that cannot be pickled
        pipe.send((None, RuntimeError(traceback.format_exc())))
