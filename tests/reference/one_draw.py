"""One draw made up: a call, and logits in which float32 may have it wrong."""

from types import SimpleNamespace

import numpy as np

from gptloop.reference.near_tie import Divergence, Step
from gptloop.runtime.request import Request, check_request
from gptloop.runtime.threefry import uniforms

ERROR = 1e-6  # of float32, as these tests make it up
NEAR, FAR = 3.9 * ERROR, 4.1 * ERROR  # the rule excuses up to 4 times the error
NOTHING = np.zeros(0, np.int64)  # generated before
HALF, LOW = 0, 3  # seeds whose first number is 0.42 and 0.18


def call(prompts=((0,),), *, new_tokens=1, candidates=1, temperature=1.0, top_k=0, seed=HALF, V=4) -> Request:
    return check_request(
        SimpleNamespace(vocab_size=V, n_positions=64),
        np.array(prompts),
        max_new_tokens=new_tokens,
        num_return_sequences=candidates,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )


def number(seed: int) -> float:
    return float(uniforms(np.array([seed]), 1, 1)[0, 0, 0])


def at_boundary(gap: float, error: float = ERROR) -> tuple[np.ndarray, np.ndarray]:
    """Exact and rounded logits: 0 and 1 meet `gap` above the uniform number, float32 has it wrong by `error`."""
    share = number(HALF) + gap
    exact, rounded = (np.log([p, 0.98 - p, 0.01, 0.01]) for p in (share, share + error))
    return exact, rounded


def at_cut(gap: float, error: float = ERROR, sure: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of which 0 and 1 are `gap` apart and 2 is larger; float32 is `error` off at an id that is never drawn."""
    exact = np.array([1.0, 1.0 - gap, sure, -9.0])
    return exact, exact + np.array([0, 0, 0, error])


def step(request: Request, logits: tuple[np.ndarray, np.ndarray]) -> Step:
    return Step(request, Divergence(0, 0, 0, 0), NOTHING, *logits)
