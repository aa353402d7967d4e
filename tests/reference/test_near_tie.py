"""One draw computed again: a near-tie within 4 times the float32 error explains a token, and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
from one_draw import ERROR, FAR, HALF, LOW, NEAR, NOTHING, at_boundary, at_cut, call, number, step

from gptloop.reference.near_tie import Divergence, Step
from gptloop.runtime.request import Request, check_request
from gptloop.runtime.threefry import uniforms

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def explained(request: Request, logits: tuple[np.ndarray, np.ndarray]) -> list[int]:
    return [token for token in range(4) if step(request, logits).explains(token)]


def rows(*tokens: list[int]) -> np.ndarray:
    return np.array(tokens, np.int64)


def test_the_drawn_token_alone_is_explained_far_from_any_boundary():
    assert explained(call(), at_boundary(0.1)) == [0]
    assert explained(call(), at_boundary(-0.1)) == [1]


@pytest.mark.parametrize("side", [1, -1], ids=["number below", "number above"])
def test_a_boundary_near_the_number_explains_both_its_tokens_and_no_third(side):
    assert explained(call(), at_boundary(side * NEAR)) == [0, 1]
    assert explained(call(), at_boundary(side * FAR)) == [0 if side > 0 else 1]


def test_where_float32_makes_no_error_there_is_no_excuse():
    assert explained(call(), at_boundary(1e-9, error=0)) == [0]
    assert explained(call(top_k=1), at_cut(1e-9, error=0, sure=-9)) == [0]


def test_logits_near_the_cut_of_top_k_may_change_places():
    request = call(top_k=2, seed=LOW)  # a number within the share of the lower id, whichever of 0 and 1 that is
    assert explained(request, at_cut(NEAR)) == [0, 1]
    assert explained(request, at_cut(FAR)) == [0]


def test_a_near_tie_inside_the_cut_or_outside_it_is_none():
    assert explained(call(top_k=3, seed=LOW), at_cut(NEAR)) == [0]
    assert explained(call(top_k=1, seed=LOW), at_cut(NEAR)) == [2]


@pytest.mark.parametrize("top_k", [0, 1, 3])
def test_greedy_is_excused_at_the_top_only(top_k):
    request = call(temperature=0, top_k=top_k)
    assert explained(request, at_cut(NEAR, sure=-5.0)) == [0, 1]
    assert explained(request, at_cut(FAR, sure=-5.0)) == [0]
    assert explained(request, at_cut(NEAR)) == [2]


def test_the_temperature_shapes_the_shares():
    """At temperature 2 the same logits give other shares, and another token at the same number."""
    logits = np.log([number(HALF) + 0.05, 0.9 - number(HALF), 0.03, 0.02])
    assert explained(call(), (logits, logits)) == [0]
    assert explained(call(temperature=2.0), (logits, logits)) == [1]


def test_each_row_and_step_has_its_own_number():
    request = call([[0], [0]], new_tokens=2, candidates=2, seed=[HALF, LOW])
    numbers = uniforms(request.seed, 2, 2)
    logits = np.log(np.full(4, 0.25))
    for row in range(4):
        for at in range(2):
            judged = Step(request, Divergence(row, at, 0, 0), NOTHING, logits, logits)
            drawn = [token for token in range(4) if judged.explains(token)]
            assert drawn == [int(numbers[row // 2, row % 2, at] * 4)]


def test_of_many_equal_ids_at_the_cut_any_may_be_left_out():
    """As float32 may have it for equal embeddings; an id further below may not come in."""
    logits = np.array([1.0, 1.0, 1.0, 1.0, 0.5, 0.5])
    rounded = logits + np.array([0, 0, 0, 0, 0, ERROR])
    request = call(top_k=1, V=6)
    judged = Step(request, Divergence(0, 0, 0, 0), NOTHING, logits, rounded)
    assert [token for token in range(6) if judged.explains(token)] == [0, 1, 2, 3]
    exact = Step(request, Divergence(0, 0, 0, 0), NOTHING, logits - np.array([0, 1, 1, 1, 0, 0]), logits)
    assert exact.explains(0)


def test_equal_ids_at_the_cut_of_top_p_may_change_places():
    logits = np.log([0.25, 0.25, 0.25, 0.25])
    rounded = logits + np.array([0, 0, 0, ERROR])
    request = check_request(
        SimpleNamespace(vocab_size=4, n_positions=64), [[0]], max_new_tokens=1, top_k=0, top_p=0.5, seed=HALF
    )
    judged = Step(request, Divergence(0, 0, 0, 0), NOTHING, logits, rounded)
    # The number is 0.42, and draws the first of the two ids that are kept: 0, or 1 where 0 has changed places.
    assert [token for token in range(4) if judged.explains(token)] == [0, 1]
