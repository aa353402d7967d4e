"""The call that OnnxLoop and TorchLoop share: its arguments, its defaults and its result.

Knows no runtime: a loop says how it runs a checked request.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from gptloop.request import Bounds, Request, check_request


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
    def generate(self, input_ids: npt.ArrayLike, *, return_logprobs: Literal[True], **arguments: Any) -> Generation: ...

    @overload
    def generate(
        self, input_ids: npt.ArrayLike, *, return_logprobs: Literal[False] = False, **arguments: Any
    ) -> npt.NDArray[np.int64]: ...

    def generate(  # type: ignore[misc]  # the overloads tell the results apart, the names of the arguments stand here
        self,
        input_ids: npt.ArrayLike,
        *,
        max_new_tokens: int,
        attention_mask: npt.ArrayLike | None = None,
        num_return_sequences: int = 1,
        temperature: float | Sequence[float] = 1.0,
        top_k: int | Sequence[int] = 50,
        top_p: float | Sequence[float] = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        min_new_tokens: int = 0,
        seed: int | Sequence[int] | None = 0,
        eos_token_id: int | Sequence[int] | None = None,
        pad_token_id: int | None = None,
        return_logprobs: bool = False,
    ) -> npt.NDArray[np.int64] | Generation:
        """Sample continuations of the prompts.

        The settings have the names, the order and the meaning of Hugging Face's `generate`.

        Args:
            input_ids: Integers [B, P], B prompts of P tokens each, within the vocabulary.
            max_new_tokens: N at most, at least 1; P + max_new_tokens may not exceed the model's n_positions.
            attention_mask: [B, P], 1 for a token, 0 for padding, which must be on the left; None where all are tokens.
                A padded prompt gives the same tokens as the prompt alone.
            num_return_sequences: R candidates of each prompt, at least 1.
            temperature: Divides the logits; 0 is greedy. One number, or one per prompt.
            top_k: How many of the most likely tokens are drawn from, equally likely ones by lower id; 0 to V, 0 for the
                whole vocabulary. One number, or one per prompt.
            top_p: Draw from the most likely tokens that together reach this probability; above 0, at most 1. One
                number, or one per prompt.
            min_p: Draw from tokens at least this fraction as likely as the most likely one; 0 to 1.
            repetition_penalty: Divides the positive and multiplies the negative logits of tokens that the row has
                already; above 0, 1 for none. Padding does not count as a token.
            min_new_tokens: No end of text before so many new tokens; 0 to max_new_tokens.
            seed: 0 to 2^63 - 1. One number (prompt i then has seed + i), or one per prompt; None draws fresh ones,
                which `Generation.seed` holds. The same seed gives the same tokens, whatever else is in the batch.
            eos_token_id: The id, or ids, that end a row; None to go on. Generation ends when all rows have ended.
            pad_token_id: What follows the end of a row; None for the first eos_token_id.
            return_logprobs: Return a `Generation`.

        Returns:
            int64 [B * R, N], new tokens only, the candidates of one prompt adjacent; N is below max_new_tokens where
            all rows ended earlier. A `Generation` if `return_logprobs`.

        Raises:
            ValueError: Naming the argument, the value and the bound, before any work is done.
        """
        request = check_request(
            self.bounds,
            input_ids,
            max_new_tokens=max_new_tokens,
            attention_mask=attention_mask,
            num_return_sequences=num_return_sequences,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            min_new_tokens=min_new_tokens,
            seed=seed,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            return_logprobs=return_logprobs,
        )
        outputs = self._run(request)
        return Generation(*outputs, seed=request.seed) if return_logprobs else outputs.tokens

    @abc.abstractmethod
    def _run(self, request: Request) -> Outputs:
        """Run a checked request."""
