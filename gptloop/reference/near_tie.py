"""One draw computed again in float64: which tokens can float32 not tell apart there?

Knows the rule of the draw (gptloop.graph.sampling); no runtime and no model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gptloop.names import TOP_P_REACHED
from gptloop.reference.processors import Processors
from gptloop.runtime.request import Request
from gptloop.runtime.threefry import uniforms

_Numbers = npt.NDArray[np.float64]

ERRORS_EXCUSED = 4.0
TIES_EXCHANGED = 8  # of those on either side of a cut that tie with each other


@dataclass(frozen=True)
class Divergence:
    """The first step at which a row's token is not the oracle's."""

    row: int
    step: int
    expected: int
    found: int


class Step:
    """One draw, computed exactly, and how far float32 may move it.

    Top-k, top-p and min-p each keep a prefix of the ids in descending order of their logits, so what float32 may change
    is where that prefix ends, which of two nearly equal logits is its last, and the running sum.

    Args:
        request: The call.
        at: The row and step.
        generated: int64, the row's tokens before the step.
        exact: Logits [V] in float64.
        rounded: Logits [V] in the loops' precision, held in float64.
    """

    def __init__(
        self, request: Request, at: Divergence, generated: npt.NDArray[np.int64], exact: _Numbers, rounded: _Numbers
    ):
        prompt, candidate = divmod(at.row, request.num_return_sequences)
        greedy = request.temperature[prompt] == 0
        self._temperature = 1.0 if greedy else float(request.temperature[prompt])
        self._top_k = 1 if greedy else int(request.top_k[prompt]) or len(exact)
        self._top_p, self._min_p = float(request.top_p[prompt]), float(request.min_p[prompt])
        processors = Processors(request, torch.device("cpu"), torch.tensor([prompt]))
        before = list(torch.from_numpy(generated).view(-1, 1))
        self._exact, self._rounded = (
            processors.apply(torch.from_numpy(logits)[None], before)[0].numpy() for logits in (exact, rounded)
        )
        self._top_k = min(self._top_k, int(np.isfinite(self._exact).sum()))  # nothing that is forbidden is kept
        number = request.first_candidate + candidate
        self._number = uniforms(request.seed[prompt : prompt + 1], 1, at.step + 1, number)[0, 0, at.step]

    def explains(self, token: int) -> bool:
        """Whether the token is drawn once kept ids and running sum may be off by the float32 error, 4 times over."""
        return any(self._distance(token, kept) <= ERRORS_EXCUSED * self._error(kept) for kept in self._kept_sets())

    def _kept_sets(self) -> list[npt.NDArray[np.int64]]:
        """The ids that are kept, ascending; and those that are kept where a cut is a near-tie."""
        order = np.argsort(-self._exact, kind="stable")
        by_rank = order[: self._top_k]
        probs = self._shares(self._exact, by_rank)
        before, floor = np.cumsum(probs) - probs, probs[0] * self._min_p
        tolerance = ERRORS_EXCUSED * self._error(by_rank)
        top_p = self._top_p * TOP_P_REACHED if self._top_p < 1 else np.inf
        length = int(((before < top_p) & (probs >= floor)).sum())
        unsure = (np.abs(before - top_p) <= tolerance) | (np.abs(probs - floor) <= tolerance)
        sets = [by_rank[:length]]
        if length > 1 and unsure[length - 1]:
            sets.append(by_rank[: length - 1])
        if length < len(by_rank) and unsure[length]:
            sets.append(by_rank[: length + 1])
        return [np.sort(kept) for kept in (*sets, *self._exchanged(order, length))]

    def _exchanged(self, order: npt.NDArray[np.int64], length: int) -> Iterator[npt.NDArray[np.int64]]:
        """The first ranks with one id exchanged for one left out, where their logits are a near-tie.

        Of many that tie, as those of equal embeddings, float32 may leave out any.
        """
        if length == len(order):
            return
        tolerance = ERRORS_EXCUSED * self._logit_error()
        last, left_out = self._exact[order[length - 1]], self._exact[order[length]]
        near = np.flatnonzero(self._exact[order[:length]] - left_out <= tolerance)
        others = length + np.flatnonzero(last - self._exact[order[length:]] <= tolerance)
        for inside, outside in itertools.product(near[-TIES_EXCHANGED:], others[:TIES_EXCHANGED]):
            if self._exact[order[inside]] - self._exact[order[outside]] <= tolerance:
                yield np.append(np.delete(order[:length], inside), order[outside])

    def _logit_error(self) -> float:
        finite = np.isfinite(self._exact)
        return float(np.abs(self._exact[finite] - self._rounded[finite]).max())

    def _shares(self, logits: _Numbers, kept: npt.NDArray[np.int64]) -> _Numbers:
        weights = np.exp((logits[kept] - logits[kept].max()) / self._temperature)
        shares: _Numbers = weights / weights.sum()
        return shares

    def _error(self, kept: npt.NDArray[np.int64]) -> float:
        """The float32 error of the running sum over these ids."""
        exact, rounded = (np.cumsum(self._shares(logits, kept)) for logits in (self._exact, self._rounded))
        return float(np.abs(exact - rounded).max())

    def _distance(self, token: int, kept: npt.NDArray[np.int64]) -> float:
        """How far the uniform number lies outside the token's share of the running sum; infinite if it has none."""
        if token not in kept:
            return math.inf
        index = int(np.searchsorted(kept, token))
        sums = np.append(0.0, np.cumsum(self._shares(self._exact, kept)))
        return float(max(sums[index] - self._number, self._number - sums[index + 1], 0.0))

    def __str__(self) -> str:
        order = np.argsort(-self._exact, kind="stable")
        error = self._logit_error()
        return f"uniform {self._number:.9g}, largest logits at ids {order[:3].tolist()}, logit error {error:.3g}"
