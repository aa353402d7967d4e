"""Do two loops return the same tokens? And where a row parts from the oracle's path, was it a near-tie?

At fp32 a row may leave the path only where float32 cannot tell which token is right. At the row's first differing step
the logits are computed again in float64 and in float32, and the row is excused only if

- the uniform number lies nearer to the boundary of the running sum between the two tokens, or
- the two logits that change places at the cut of top-k (greedy: at the top) lie nearer to each other

than 4 times the float32 error measured at that very step. Excused rows are counted and capped. Knows the rule of the
draw (gptloop.graph.sampling); knows no runtime.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.request import Request
from gptloop.threefry import uniforms
from gptloop.torch_loop import TorchLoop

ERRORS_EXCUSED = 4.0
ROWS_PER_EXCUSE = 100


class ParityError(AssertionError):
    """Tokens differ where float32 rounding does not explain it."""


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison that passed.

    Attributes:
        rows: Rows compared.
        excused_rows: Rows that left the oracle's path at a near-tie.
    """

    rows: int
    excused_rows: int


@dataclass(frozen=True)
class Divergence:
    """The first step at which a row's token is not the oracle's."""

    row: int
    step: int
    expected: int
    found: int


class Judge:
    """Compares tokens with the oracle's, in float64 where they differ.

    Args:
        model: The checkpoint that both sides ran; its float64 copy is made when the first difference is met.
    """

    def __init__(self, model: Model | Checkpoint):
        self._checkpoint = open_checkpoint(model)
        self._loops: dict[torch.dtype, TorchLoop] = {}

    def check(self, request: Request, expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> Parity:
        """Compare the tokens of one call.

        Args:
            request: The call.
            expected: int64 [S, N], the oracle's.
            found: int64 [S, N].

        Raises:
            ParityError: If shapes differ, a difference is no near-tie, or more than 1 row in 100 (rounded up) differs.
        """
        if expected.shape != found.shape:
            raise ParityError(f"shape {found.shape} instead of {expected.shape}")
        divergences = first_differences(expected, found)
        for divergence in divergences:
            self._excuse(request, expected, divergence)
        rows, allowed = len(expected), math.ceil(len(expected) / ROWS_PER_EXCUSE)
        if len(divergences) > allowed:
            raise ParityError(f"{len(divergences)} of {rows} rows differ, each at a near-tie, but only {allowed} may")
        return Parity(rows, len(divergences))

    def _excuse(self, request: Request, expected: npt.NDArray[np.int64], at: Divergence) -> None:
        """Return if the divergence is a near-tie, else raise."""
        prompt = request.input_ids[at.row // request.num_return_sequences]
        ids = np.concatenate([prompt, expected[at.row, : at.step]])[None]
        step = Step(request, at, self._logits(ids, torch.float64), self._logits(ids, torch.float32))
        for token in (at.expected, at.found):
            if not step.explains(token):
                raise ParityError(f"row {at.row}, step {at.step}: {at.found} instead of {at.expected}; {step}")

    def _logits(self, ids: npt.NDArray[np.int64], dtype: torch.dtype) -> npt.NDArray[np.float64]:
        if dtype not in self._loops:
            self._loops[dtype] = TorchLoop(self._checkpoint, device="cpu", dtype=dtype)
        with torch.inference_mode():
            logits, _ = self._loops[dtype].prefill(torch.from_numpy(ids), new_tokens=1)
        return logits[0].double().numpy()


def first_differences(expected: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> list[Divergence]:
    """Where each differing row first differs."""
    differs = expected != found
    rows = np.flatnonzero(differs.any(1))
    steps = differs[rows].argmax(1)
    return [
        Divergence(int(row), int(step), int(expected[row, step]), int(found[row, step]))
        for row, step in zip(rows, steps, strict=True)
    ]


class Step:
    """One draw, computed exactly, and how far float32 may move it.

    Args:
        request: The call.
        at: The row and step.
        exact: Logits [V] in float64.
        rounded: Logits [V] in float32, held in float64.
    """

    def __init__(
        self, request: Request, at: Divergence, exact: npt.NDArray[np.float64], rounded: npt.NDArray[np.float64]
    ):
        prompt, candidate = divmod(at.row, request.num_return_sequences)
        greedy = request.temperature[prompt] == 0
        self._temperature = 1.0 if greedy else float(request.temperature[prompt])
        self._top_k = 1 if greedy else int(request.top_k[prompt]) or len(exact)
        self._exact, self._rounded = exact, rounded
        self._number = uniforms(request.seed[prompt : prompt + 1], candidate + 1, at.step + 1)[0, candidate, at.step]

    def explains(self, token: int) -> bool:
        """Whether the token is drawn once kept ids and running sum may be off by the float32 error, 4 times over."""
        return any(self._distance(token, kept) <= ERRORS_EXCUSED * self._cdf_error(kept) for kept in self._kept_sets())

    def _kept_sets(self) -> list[npt.NDArray[np.int64]]:
        """The ids that top-k keeps, ascending; and, at a near-tie, those with the two logits at the cut swapped."""
        order = np.argsort(-self._exact, kind="stable")
        sets = [order[: self._top_k]]
        if self._top_k < len(order):
            inside, outside = order[self._top_k - 1 : self._top_k + 1]
            if self._exact[inside] - self._exact[outside] <= ERRORS_EXCUSED * np.abs(self._exact - self._rounded).max():
                sets.append(np.append(order[: self._top_k - 1], outside))
        return [np.sort(kept) for kept in sets]

    def _cdf(self, logits: npt.NDArray[np.float64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        weights = np.exp((logits[kept] - logits[kept].max()) / self._temperature)
        return np.cumsum(weights) / weights.sum()

    def _cdf_error(self, kept: npt.NDArray[np.int64]) -> float:
        return float(np.abs(self._cdf(self._exact, kept) - self._cdf(self._rounded, kept)).max())

    def _distance(self, token: int, kept: npt.NDArray[np.int64]) -> float:
        """How far the uniform number lies outside the token's share of the running sum; infinite if it has none."""
        if token not in kept:
            return math.inf
        index = int(np.searchsorted(kept, token))
        shares = np.append(0.0, self._cdf(self._exact, kept))
        return float(max(shares[index] - self._number, self._number - shares[index + 1], 0.0))

    def __str__(self) -> str:
        order = np.argsort(-self._exact, kind="stable")
        error = np.abs(self._exact - self._rounded).max()
        return (
            f"uniform {self._number:.9g}, largest logits at ids {order[:3].tolist()}, float32 logit error {error:.3g}"
        )
