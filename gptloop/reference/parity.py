"""Do two loops return the same tokens? And where a row parts from the oracle's path, was it a near-tie?

At fp32 a row may leave the path only where float32 cannot tell which token is right. At the row's first differing step
the logits are computed again in float64 and in float32, and the row is excused only if

- the uniform number lies nearer to the boundary of the running sum between the two tokens, or
- the two logits that change places at the cut of top-k (greedy: at the top) lie nearer to each other

than 4 times the float32 error measured at that very step. Excused rows are counted and capped. What is
computed of such a step is gptloop.reference.near_tie's. Knows no runtime.

Below float32, tokens part early and rightly: rounding moves every logit, so a draw near a boundary falls on the other
side. In half precision the rule of the near-tie is the same, with that precision's error at that step, but the rows
are not capped, and the first few that differ stand for all. What else is asked of such a precision is
gptloop.reference.bounds'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.checkpoint.checkpoint import TORCH_TYPES
from gptloop.reference.bounds import ParityError
from gptloop.reference.near_tie import Divergence, Step
from gptloop.reference.torch_loop import TorchLoop
from gptloop.runtime.request import Request

ROWS_PER_EXCUSE = 100
ROWS_JUDGED_IN_HALF = 8  # each costs a pass over its text in float64, and nearly all rows differ in the end


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison that passed.

    Attributes:
        rows: Rows compared.
        excused_rows: Rows that left the oracle's path at a near-tie.
    """

    rows: int
    excused_rows: int


class Judge:
    """Compares tokens with the oracle's, in float64 where they differ.

    Args:
        model: The checkpoint that both sides ran; its float64 copy is made when the first difference is met.
        precision: That both sides ran in: "fp32", "fp16" or "bf16".
        device: Where to compute again: "cpu" or "cuda".
    """

    def __init__(self, model: Model | Checkpoint, precision: str = "fp32", device: str = "cpu"):
        self._checkpoint = open_checkpoint(model)
        self._precision, self._device = precision, device
        self._loops: dict[torch.dtype, TorchLoop] = {}

    def check(self, request: Request, expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> Parity:
        """Compare the tokens of one call.

        Args:
            request: The call.
            expected: int64 [S, N], the oracle's.
            found: int64 [S, N], N maybe another where rows ended.

        Raises:
            ParityError: If shapes differ without an end of text, a difference is no near-tie, or at fp32 more than 1
                row in 100 (rounded up) differs.
        """
        if len(expected) != len(found) or (expected.shape != found.shape and not request.may_end):
            raise ParityError(f"shape {found.shape} instead of {expected.shape}")
        if found.shape[1] > request.max_new_tokens:
            raise ParityError(f"{found.shape[1]} new tokens, at most {request.max_new_tokens} were asked for")
        expected, found = (_padded(tokens, request) for tokens in (expected, found))
        divergences = first_differences(expected, found)
        half = self._precision != "fp32"
        for divergence in divergences[:ROWS_JUDGED_IN_HALF] if half else divergences:
            self._excuse(request, expected, divergence)
        rows, allowed = len(expected), math.ceil(len(expected) / ROWS_PER_EXCUSE)
        if len(divergences) > allowed and not half:
            raise ParityError(f"{len(divergences)} of {rows} rows differ, each at a near-tie, but only {allowed} may")
        return Parity(rows, len(divergences))

    def _excuse(self, request: Request, expected: npt.NDArray[np.int64], at: Divergence) -> None:
        """Return if the divergence is a near-tie, else raise."""
        prompt = at.row // request.num_return_sequences
        text = request.input_ids[prompt][request.attention_mask[prompt] == 1]
        ids = np.concatenate([text, expected[at.row, : at.step]])
        dtypes = (torch.float64, TORCH_TYPES[self._precision])
        step = Step(request, at, expected[at.row, : at.step], *(self._logits(ids[None], dtype) for dtype in dtypes))
        for token in (at.expected, at.found):
            if not step.explains(token):
                raise ParityError(f"row {at.row}, step {at.step}: {at.found} instead of {at.expected}; {step}")

    def _logits(self, ids: npt.NDArray[np.int64], dtype: torch.dtype) -> npt.NDArray[np.float64]:
        if dtype not in self._loops:
            self._loops[dtype] = TorchLoop(self._checkpoint, device=self._device, dtype=dtype)
        with torch.inference_mode():
            logits, _ = self._loops[dtype].prefill(torch.from_numpy(ids).to(self._device), new_tokens=1)
        return logits[0].double().cpu().numpy()


def _padded(tokens: npt.NDArray[np.int64], request: Request) -> npt.NDArray[np.int64]:
    """All rows as long as the call allows: a generation that ended early is padding from there on."""
    missing = request.max_new_tokens - tokens.shape[1]
    return np.pad(tokens, ((0, 0), (0, missing)), constant_values=request.pad_token_id)


def first_differences(expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> list[Divergence]:
    """Where each differing row first differs."""
    differs = expected != found
    rows = np.flatnonzero(differs.any(1))
    steps = differs[rows].argmax(1)
    return [
        Divergence(int(row), int(step), int(expected[row, step]), int(found[row, step]))
        for row, step in zip(rows, steps, strict=True)
    ]
