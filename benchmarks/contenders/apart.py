"""A contender in a process of its own, behind the same call: for a library whose threads would not leave others alone.

The call waits for the answer, so that its time is the contender's, and some tenths of a millisecond. In between, the
process sleeps.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Workload
from benchmarks.contenders import Contender, Tokens
from gptloop.huge_pages import on_huge_pages


class Apart:
    """What a function loads, elsewhere; it ends when this object does.

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
        process = context.Process(target=_serve, args=(there, load, arguments, huge_pages), daemon=True)
        process.start()
        there.close()
        self._answer()

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `benchmarks.contenders.Contender`."""
        tokens: Tokens = self._ask("generate", ids, workload, max_new_tokens=max_new_tokens, greedy=greedy)
        return tokens

    def score(self, ids: Tokens) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """As `gptloop.evaluate.Scorer`."""
        scored: tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]] = self._ask("score", ids)
        return scored

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        self._pipe.send((method, arguments, options))
        return self._answer()

    def _answer(self) -> Any:
        result, error = self._pipe.recv()
        if error is not None:
            raise error
        return result


def _serve(pipe: Connection, load: Callable[..., Contender], arguments: tuple[Any, ...], huge_pages: bool) -> None:
    """Load, then answer until the other end is closed."""
    try:
        with on_huge_pages(wanted=huge_pages):
            contender = load(*arguments)
    except Exception as error:
        pipe.send((None, error))
        return
    pipe.send((None, None))
    while True:
        try:
            method, given, options = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((getattr(contender, method)(*given, **options), None))
        except Exception as error:
            pipe.send((None, error))
