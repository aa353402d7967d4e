"""The call that OnnxLoop and TorchLoop share, and its result.

Knows no runtime: a loop says how it runs a checked request.
"""

from __future__ import annotations

import abc
from typing import Literal, NamedTuple, Unpack, overload

import numpy as np
import numpy.typing as npt

from gptloop.runtime.arguments import Arguments, takes_arguments
from gptloop.runtime.request import Bounds, Request, check_request


class Outputs(NamedTuple):
    """What a loop computes for a request: [S, N] each, the log-probabilities 0 unless asked for."""

    tokens: npt.NDArray[np.int64]
    logprobs: npt.NDArray[np.float32]
    raw_logprobs: npt.NDArray[np.float32]


class Generation(NamedTuple):
    """What `generate(..., return_logprobs=True)` returns; S = B * R rows of N new tokens.

    Attributes:
        tokens: int64 [S, N].
        logprobs: float32 [S, N], of each token under the distribution it was drawn from (of a greedy row: under the
            processed logits, as Hugging Face's compute_transition_scores has it); 0 after a row's end.
        raw_logprobs: float32 [S, N], under the model's own distribution: temperature 1, nothing cut off or penalized.
        seed: int64 [B], the prompts' seeds, to draw the same tokens again.
    """

    tokens: npt.NDArray[np.int64]
    logprobs: npt.NDArray[np.float32]
    raw_logprobs: npt.NDArray[np.float32]
    seed: npt.NDArray[np.int64]


class Loop(abc.ABC):
    """Something that generates.

    Args:
        bounds: What the model allows: its vocabulary size and number of positions.
    """

    def __init__(self, bounds: Bounds):
        self.bounds = bounds

    @overload
    def generate(
        self, input_ids: npt.ArrayLike, *, return_logprobs: Literal[True], **arguments: Unpack[Arguments]
    ) -> Generation: ...

    @overload
    def generate(
        self, input_ids: npt.ArrayLike, *, return_logprobs: Literal[False] = False, **arguments: Unpack[Arguments]
    ) -> npt.NDArray[np.int64]: ...

    @takes_arguments
    def generate(
        self, input_ids: npt.ArrayLike, *, return_logprobs: bool = False, **arguments: Unpack[Arguments]
    ) -> npt.NDArray[np.int64] | Generation:
        """Sample continuations of the prompts.

        Args:
            input_ids: Integers [B, P], B prompts of P tokens each, within the vocabulary.
            **arguments
            return_logprobs: Return a `Generation`.

        Returns:
            int64 [B * R, N], new tokens only, the candidates of one prompt adjacent; N is below max_new_tokens where
            all rows ended earlier. A `Generation` if `return_logprobs`.

        Raises:
            ValueError: Naming the argument, the value and the bound, before any work is done.
            TypeError: If an argument is unknown, or max_new_tokens is not given.
        """
        request = self.check(input_ids, return_logprobs=return_logprobs, **arguments)
        outputs = self._run(request)
        return Generation(*outputs, seed=request.seed) if return_logprobs else outputs.tokens

    def check(
        self, input_ids: npt.ArrayLike, *, return_logprobs: bool = False, **arguments: Unpack[Arguments]
    ) -> Request:
        """The request of a call to `generate`, without running it; raises as that does."""
        return check_request(self.bounds, input_ids, return_logprobs=return_logprobs, **arguments)

    @abc.abstractmethod
    def _run(self, request: Request) -> Outputs:
        """Run a checked request."""
