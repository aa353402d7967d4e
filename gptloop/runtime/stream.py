"""A generation in blocks: each is one call of the graph, which goes on from what the call before has left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop import names
from gptloop.runtime.loop import Generation
from gptloop.runtime.request import Request
from gptloop.runtime.run import Deadline, Input, as_ortvalue
from gptloop.runtime.state import Prefix, State

OUTPUTS = (names.SEQUENCES, names.ENDED)
LOGPROBS = (names.LOGPROBS, names.RAW_LOGPROBS)


class RunBlock(Protocol):
    """How a block is run."""

    def __call__(
        self, inputs: Mapping[str, Input], outputs: Sequence[str], stay: Sequence[str], timeout_s: float | None
    ) -> list[ort.OrtValue]:
        """As `gptloop.runtime.run.run_bound`."""


class Stream(Iterator[Any]):
    """New tokens while they are generated: what `OnnxLoop.stream` returns.

    Nothing is computed before it is asked for, and nothing more after `close`, or when the stream is dropped.

    Args:
        run: Runs a block.
        request: The whole generation.
        feeds: Its inputs, by name, which all blocks have but for the number of their tokens.
        state: Where it starts.
        block: New tokens of a row that are handed over at once.
        deadline: When to end.
    """

    def __init__(
        self,
        run: RunBlock,
        request: Request,
        feeds: Mapping[str, npt.NDArray[Any]],
        state: State,
        block: int,
        deadline: Deadline,
    ):
        self._run, self._request, self._state, self._block = run, request, state, block
        self._feeds = {name: as_ortvalue(value) for name, value in feeds.items()}
        self._deadline, self._closed = deadline, False

    def __next__(self) -> npt.NDArray[np.int64] | Generation:
        """The next block's tokens, int64 [S, k], or a `Generation` of them.

        Raises:
            StopIteration: When all is generated, all rows have ended or the stream was closed.
            TimeoutError: If the time was up. The stream may be gone on with.
        """
        state, wanted = self._state, OUTPUTS + LOGPROBS * self._request.return_logprobs
        left = self._request.max_new_tokens - state.generated
        if self._closed or left == 0 or (state.generated and state.left.ended.all()):
            raise StopIteration
        new_tokens = min(left, self._block)
        inputs = {**self._feeds, names.MAX_NEW_TOKENS: np.array([new_tokens]), **state.inputs(new_tokens)}
        outputs = self._run(inputs, wanted, state.outputs(), self._deadline.left_s())
        (tokens, ended, *scores), caches = _divided(outputs, len(wanted))
        piece = self._piece(tokens, scores)
        after = state.after(tokens, ended, caches)
        # Python runs a signal's handler when a function is called or a loop goes back, so before both of these lines or
        # after them: a block is handed over if and only if it is not computed again.
        state.left = after
        return piece

    def _piece(
        self, tokens: npt.NDArray[np.int64], scores: Sequence[npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.int64] | Generation:
        rows = tokens.reshape(-1, tokens.shape[2])
        if not scores:
            return rows
        logprobs, raw_logprobs = (score.reshape(rows.shape) for score in scores)
        return Generation(rows, logprobs, raw_logprobs, self._request.seed)

    def close(self) -> None:
        """End the generation; what has been generated stays available to `prefix`."""
        self._closed = True

    def prefix(self, candidate: int | Sequence[int] | None = None) -> Prefix:
        """The prompts and what has been generated up to now, to go on from: a conversation's next turn.

        Args:
            candidate: Of each prompt, from 0: one number, or one per prompt; needed where there are several.

        Raises:
            ValueError: If there is no such candidate, or nothing has been generated yet.
        """
        return self._state.prefix(candidate)


def _divided(outputs: Sequence[ort.OrtValue], read: int) -> tuple[list[npt.NDArray[Any]], Sequence[ort.OrtValue]]:
    """Those that are read, as arrays, and the caches, which stay where they are."""
    return [value.numpy() for value in outputs[:read]], outputs[read:]
