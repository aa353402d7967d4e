"""What a precision below float32 may cost: quality against the float32 source, closeness of two loops.

Knows numbers that others computed; nothing of draws, models or runtimes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from gptloop.reference.evaluate import Evaluation
    from gptloop.runtime.loop import Generation


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
# 0.5: two roundings of a logit are the error between two loops. int8 is compared with nobody else's
# int8; on the same seeded weights its most likely token was the source's at 90 to 94 % of 31 to 915 positions, and at
# 98.7 % for a model that was trained.
BOUNDS = {
    "fp16": Bound(perplexity_change=0.001, agreement=0.95, logprob_error=0.125),
    "bf16": Bound(perplexity_change=0.01, agreement=0.90, logprob_error=1.0),
    "int8": Bound(perplexity_change=0.01, agreement=0.80, logprob_error=math.inf),
}


class ParityError(AssertionError):
    """Tokens differ where float32 rounding does not explain it."""


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
