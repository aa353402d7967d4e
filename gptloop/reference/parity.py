"""Do two loops return the same tokens? And where a row parts from the oracle's path, was it a near-tie?

At fp32 a row may leave the path only where float32 cannot tell which token is right. At the row's first differing step
the logits are computed again in float64 and in float32, and the row is excused only if

- the uniform number lies nearer to the boundary of the running sum between the two tokens, or
- the two logits that change places at the cut of top-k (greedy: at the top) lie nearer to each other

than 4 times the float32 error measured at that very step. Excused rows are counted and capped. Knows the rule of the
draw (gptloop.graph.sampling); knows no runtime.

Below float32, tokens part early and rightly: rounding moves every logit, so a draw near a boundary falls on the other
side. In half precision the rule of the near-tie is the same, with that precision's error at that step, but the rows
are not capped, and the first few that differ stand for all. Besides, a model has to agree with its float32 source in
quality (`check_quality`), and two loops of one precision in the log-probabilities of the tokens that they share
(`check_closeness`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.checkpoint.checkpoint import TORCH_TYPES
from gptloop.reference.torch_loop import TorchLoop
from gptloop.runtime.request import Request
from gptloop.runtime.threefry import uniforms

if TYPE_CHECKING:
    from gptloop.reference.evaluate import Evaluation
    from gptloop.runtime.loop import Generation

_Numbers = npt.NDArray[np.float64]

ERRORS_EXCUSED = 4.0
ROWS_PER_EXCUSE = 100
ROWS_JUDGED_IN_HALF = 8  # each costs a pass over its text in float64, and nearly all rows differ in the end


class Bound(NamedTuple):
    """What a precision below float32 may cost.

    Attributes:
        perplexity_change: Of the source's perplexity, either way.
        agreement: Least share of positions at which the most likely token is the source's.
        logprob_error: Of a token's log-probability, between two loops of this precision.
    """

    perplexity_change: float
    agreement: float
    logprob_error: float


# Measured on seeded weights of gpt2's size, over 71 and 255 tokens, computed in half precision throughout: perplexity
# within 0.004 % (fp16) and 0.05 % (bf16), agreement at least 97 % and 94 %; their logits are flat, so that near-ties
# are many. A published GPT-2's logits go down to about -128, where float16 numbers lie 0.06 apart and bfloat16 ones
# 0.5: two roundings of a logit are the error between two loops. int8 is compared with nobody else's int8.
BOUNDS = {
    "fp16": Bound(perplexity_change=0.001, agreement=0.95, logprob_error=0.125),
    "bf16": Bound(perplexity_change=0.01, agreement=0.90, logprob_error=1.0),
    "int8": Bound(perplexity_change=0.01, agreement=0.0, logprob_error=math.inf),
}


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
        if len(expected) != len(found) or (expected.shape != found.shape and not request.eos_token_ids):
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
        step = Step(request, at, ids, *(self._logits(ids[None], dtype) for dtype in dtypes))
        for token in (at.expected, at.found):
            if not step.explains(token):
                raise ParityError(f"row {at.row}, step {at.step}: {at.found} instead of {at.expected}; {step}")

    def _logits(self, ids: npt.NDArray[np.int64], dtype: torch.dtype) -> _Numbers:
        if dtype not in self._loops:
            self._loops[dtype] = TorchLoop(self._checkpoint, device=self._device, dtype=dtype)
        with torch.inference_mode():
            logits, _ = self._loops[dtype].prefill(torch.from_numpy(ids).to(self._device), new_tokens=1)
        return logits[0].double().cpu().numpy()


def check_quality(quality: Evaluation, precision: str) -> str:
    """The agreement with the float32 source that is asked of a precision below it, in words.

    Raises:
        ParityError: If perplexity or most likely tokens are further off than `BOUNDS` allows.
    """
    bound = BOUNDS[precision]
    words = (
        f"perplexity {quality.perplexity_change:+.2%} from fp32, most likely token the same at {quality.agreement:.1%} "
        f"of {quality.tokens}"
    )
    if not abs(quality.perplexity_change) <= bound.perplexity_change:
        raise ParityError(f"{words}; at most {bound.perplexity_change:.1%} is allowed")
    if not quality.agreement >= bound.agreement:
        raise ParityError(f"{words}; at least {bound.agreement:.0%} is asked for")
    return words


@dataclass(frozen=True)
class Closeness:
    """Two loops of one precision on one call.

    Attributes:
        rows: Rows compared.
        equal_rows: Rows whose tokens are all the same.
        shared_tokens: Share of the tokens before each row's first difference.
        logprob_error: Largest difference of the model's own log-probability at a shared token.
    """

    rows: int
    equal_rows: int
    shared_tokens: float
    logprob_error: float

    def __str__(self) -> str:
        return (
            f"{self.equal_rows} of {self.rows} rows equal, {self.shared_tokens:.1%} of the tokens before a difference, "
            f"log-probabilities within {self.logprob_error:.2g} there"
        )


def check_closeness(expected: Generation, found: Generation, precision: str) -> Closeness:
    """Compare two loops of one precision below float32.

    Args:
        expected: One loop's result, with log-probabilities.
        found: The other's, for the same call.
        precision: Both loops'.

    Raises:
        ParityError: If shapes differ, no first token is shared, or a log-probability at a shared token is further off
            than `BOUNDS` allows.
    """
    if expected.tokens.shape != found.tokens.shape:
        raise ParityError(f"shape {found.tokens.shape} instead of {expected.tokens.shape}")
    shared = np.logical_and.accumulate(expected.tokens == found.tokens, axis=1)
    errors = np.abs(expected.raw_logprobs - found.raw_logprobs)[shared]
    if not len(errors):
        raise ParityError(f"none of {len(shared)} rows begins with the same token")
    closeness = Closeness(len(shared), int(shared.all(1).sum()), float(shared.mean()), float(errors.max()))
    if not closeness.logprob_error <= BOUNDS[precision].logprob_error:
        raise ParityError(f"{closeness}; at most {BOUNDS[precision].logprob_error} is allowed in {precision}")
    return closeness


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


class Step:
    """One draw, computed exactly, and how far float32 may move it.

    Top-k, top-p and min-p each keep a prefix of the ids in descending order of their logits, so what float32 may change
    is where that prefix ends, which of two nearly equal logits is its last, and the running sum.

    Args:
        request: The call.
        at: The row and step.
        seen: int64, the row's prompt and its tokens before the step.
        exact: Logits [V] in float64.
        rounded: Logits [V] in the loops' precision, held in float64.
    """

    def __init__(
        self, request: Request, at: Divergence, seen: npt.NDArray[np.int64], exact: _Numbers, rounded: _Numbers
    ):
        prompt, candidate = divmod(at.row, request.num_return_sequences)
        greedy = request.temperature[prompt] == 0
        self._temperature = 1.0 if greedy else float(request.temperature[prompt])
        self._top_k = 1 if greedy else int(request.top_k[prompt]) or len(exact)
        self._top_p, self._min_p = float(request.top_p[prompt]), request.min_p
        self._exact, self._rounded = (_processed(logits, request, seen, at.step) for logits in (exact, rounded))
        self._number = uniforms(request.seed[prompt : prompt + 1], candidate + 1, at.step + 1)[0, candidate, at.step]

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
        top_p = self._top_p if self._top_p < 1 else np.inf
        length = int(((before < top_p) & (probs >= floor)).sum())
        unsure = (np.abs(before - top_p) <= tolerance) | (np.abs(probs - floor) <= tolerance)
        sets = [by_rank[:length]]
        if length > 1 and unsure[length - 1]:
            sets.append(by_rank[: length - 1])
        if length < len(by_rank) and unsure[length]:
            sets.append(by_rank[: length + 1])
        if length == self._top_k < len(order) and self._cut_is_near_tie(*order[length - 1 : length + 1]):
            sets.append(np.append(order[: length - 1], order[length]))
        return [np.sort(kept) for kept in sets]

    def _cut_is_near_tie(self, inside: int, outside: int) -> bool:
        return bool(self._exact[inside] - self._exact[outside] <= ERRORS_EXCUSED * self._logit_error())

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


def _processed(logits: _Numbers, request: Request, seen: npt.NDArray[np.int64], step: int) -> _Numbers:
    """The logits after repetition penalty and min_new_tokens."""
    logits, penalty = logits.copy(), request.repetition_penalty
    ids = np.unique(seen)
    logits[ids] = np.where(logits[ids] < 0, logits[ids] * penalty, logits[ids] / penalty)
    if step < request.min_new_tokens:
        logits[list(request.eos_token_ids)] = -np.inf
    return logits
