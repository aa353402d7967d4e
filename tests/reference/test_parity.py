"""The judge of parity: passes what is equal, excuses a near-tie within 4 times the float32 error, and nothing else."""

import numpy as np
import pytest
import torch
from one_draw import FAR, LOW, NEAR, at_boundary, at_cut, call, step

from gptloop import OnnxLoop, TorchLoop, export
from gptloop.reference.bounds import ParityError
from gptloop.reference.near_tie import Divergence
from gptloop.reference.parity import Judge, Parity, first_differences
from gptloop.runtime.request import Request

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def explained(request: Request, logits: tuple[np.ndarray, np.ndarray]) -> list[int]:
    return [token for token in range(4) if step(request, logits).explains(token)]


@pytest.fixture
def judge(tiny, monkeypatch):
    """A judge whose logits are made up; it notes for which ids they were asked."""

    def of(exact: np.ndarray, rounded: np.ndarray) -> Judge:
        judge = Judge(tiny.model)
        judge.asked = []

        def logits(ids, dtype):
            judge.asked.append((ids.tolist(), dtype))
            return exact if dtype == torch.float64 else rounded

        monkeypatch.setattr(judge, "_logits", logits)
        return judge

    return of


def rows(*tokens: list[int]) -> np.ndarray:
    return np.array(tokens, np.int64)


# On a real model


@pytest.fixture(scope="module")
def sampled(tiny):
    """A call and its tokens: two prompts, three candidates."""
    request = call([[1, 2, 3], [4, 5, 6]], new_tokens=8, candidates=3, top_k=20, V=97)
    tokens = tiny.torch.generate(
        request.input_ids, max_new_tokens=8, num_return_sequences=3, top_k=20, seed=request.seed
    )
    return request, tokens


def test_equal_tokens_pass_with_no_row_excused(tiny, sampled):
    request, tokens = sampled
    assert Judge(tiny.model).check(request, tokens, tokens.copy()) == Parity(rows=6, excused_rows=0)


@pytest.mark.parametrize(("row", "at"), [(0, 0), (2, 7), (3, 0), (5, 4)])
def test_a_single_corrupted_token_is_caught(tiny, sampled, row, at):
    request, tokens = sampled
    for wrong in (0, 96, (tokens[row, at] + 1) % 97):
        corrupted = tokens.copy()
        corrupted[row, at] = wrong
        with pytest.raises(ParityError, match=rf"row {row}, step {at}: {wrong} instead of {tokens[row, at]}"):
            Judge(tiny.model).check(request, tokens, corrupted)


def test_a_corrupted_oracle_is_caught_too(tiny, sampled):
    request, tokens = sampled
    corrupted = tokens.copy()
    corrupted[4, 2] = (tokens[4, 2] + 1) % 97
    with pytest.raises(ParityError, match=rf"row 4, step 2: {tokens[4, 2]} instead of {corrupted[4, 2]}"):
        Judge(tiny.model).check(request, corrupted, tokens)


def test_another_shape_is_no_parity(tiny, sampled):
    request, tokens = sampled
    with pytest.raises(ParityError, match=r"shape \(6, 7\) instead of \(6, 8\)"):
        Judge(tiny.model).check(request, tokens, tokens[:, :7])


def test_tokens_of_another_model_are_no_parity(tiny, open_tiny, sampled):
    request, tokens = sampled
    other = open_tiny(layer_norm_epsilon=0.1).onnx.generate(
        request.input_ids, max_new_tokens=8, num_return_sequences=3, top_k=20, seed=request.seed
    )
    with pytest.raises(ParityError):
        Judge(tiny.model).check(request, tokens, other)


def test_two_ids_of_one_embedding_tie_and_are_excused(tiny_model, tmp_path):
    """A tie made of real weights: greedy may take either, and nothing else."""
    model = tiny_model()
    prompt = [[1, 2, 3]]
    greedy = int(TorchLoop(model, device="cpu").generate(prompt, max_new_tokens=1, temperature=0)[0, 0])
    twin = 60
    assert greedy != twin
    with torch.no_grad():
        model.transformer.wte.weight[twin] = model.transformer.wte.weight[greedy]
    tokens = OnnxLoop(export(model, tmp_path / "twins.onnx"), device="cpu").generate(
        prompt, max_new_tokens=1, temperature=0
    )
    assert tokens[0, 0] == min(greedy, twin)
    request = call(prompt, temperature=0, V=97)
    assert Judge(model).check(request, tokens, rows([max(greedy, twin)])) == Parity(rows=1, excused_rows=1)
    with pytest.raises(ParityError, match=f"largest logits at ids \\[{min(greedy, twin)}, {max(greedy, twin)}"):
        Judge(model).check(request, tokens, rows([0]))


# From the rule to the verdict


@pytest.mark.parametrize(("expected", "found", "gap"), [(0, 1, NEAR), (1, 0, -NEAR)])
def test_a_near_tie_at_a_boundary_is_excused_and_counted(judge, expected, found, gap):
    verdict = judge(*at_boundary(gap)).check(call(), rows([expected]), rows([found]))
    assert verdict == Parity(rows=1, excused_rows=1)


@pytest.mark.parametrize(("expected", "found", "gap"), [(0, 1, FAR), (1, 0, -FAR), (0, 2, NEAR)])
def test_a_boundary_further_off_or_a_third_token_is_not_excused(judge, expected, found, gap):
    with pytest.raises(ParityError, match=f"row 0, step 0: {found} instead of {expected}; uniform 0.4"):
        judge(*at_boundary(gap)).check(call(), rows([expected]), rows([found]))


def test_a_near_tie_at_the_cut_is_excused_and_one_further_off_is_not(judge):
    request = call(top_k=2, seed=LOW)
    assert judge(*at_cut(NEAR)).check(request, rows([0]), rows([1])).excused_rows == 1
    with pytest.raises(ParityError, match="1 instead of 0"):
        judge(*at_cut(FAR)).check(request, rows([0]), rows([1]))


def test_an_oracle_that_float64_does_not_explain_is_not_excused(judge):
    with pytest.raises(ParityError):
        judge(*at_boundary(-FAR)).check(call(), rows([0]), rows([1]))


def test_the_step_is_computed_again_after_the_oracles_tokens(judge):
    """In both precisions, on the row's own prompt and what the oracle had generated when the paths parted."""
    request = call([[0, 1], [2, 3]], new_tokens=3, candidates=2, temperature=0)
    expected = rows([0, 0, 0], [0, 0, 0], [0, 0, 0], [3, 2, 0])
    found = expected.copy()
    found[3, 2] = 1
    judged = judge(*at_cut(NEAR, sure=-5.0))
    judged.check(request, expected, found)
    assert judged.asked == [([[2, 3, 3, 2]], torch.float64), ([[2, 3, 3, 2]], torch.float32)]


def test_what_follows_an_excused_step_is_not_compared(judge):
    request = call(new_tokens=4, temperature=0)
    verdict = judge(*at_cut(NEAR, sure=-5.0)).check(request, rows([2, 0, 0, 0]), rows([2, 1, 3, 3]))
    assert verdict.excused_rows == 1


@pytest.mark.parametrize(
    ("candidates", "different", "passes"),
    [(1, 1, True), (99, 1, True), (99, 2, False), (100, 1, True), (100, 2, False), (200, 2, True), (200, 3, False)],
)
def test_one_row_in_a_hundred_may_be_excused(judge, candidates, different, passes):
    """Rounded up, so that a near-tie in a small batch does not fail it."""
    request = call(candidates=candidates, temperature=0)
    expected = np.zeros((candidates, 1), np.int64)
    found = expected.copy()
    found[:different] = 1
    judged = judge(*at_cut(NEAR, sure=-5.0))
    if passes:
        assert judged.check(request, expected, found) == Parity(candidates, different)
    else:
        with pytest.raises(ParityError, match=rf"{different} of {candidates} rows differ, .* but only \d may"):
            judged.check(request, expected, found)


def test_first_differences_are_the_first_of_each_row():
    expected, found = rows([1, 2, 3], [4, 5, 6], [7, 8, 9]), rows([1, 0, 0], [4, 5, 6], [7, 8, 0])
    assert first_differences(expected, found) == [Divergence(0, 1, 2, 0), Divergence(2, 2, 9, 0)]


def test_no_excuse_hides_a_row_that_is_none(judge):
    """One near-tie among the rows does not excuse its neighbour's corrupted token."""
    request = call(candidates=200, temperature=0)
    expected = np.zeros((200, 1), np.int64)
    found = expected.copy()
    found[0], found[150] = 1, 3
    with pytest.raises(ParityError, match="row 150, step 0: 3 instead of 0"):
        judge(*at_cut(NEAR, sure=-5.0)).check(request, expected, found)
