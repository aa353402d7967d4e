"""End to end on a model whose distribution is real and peaked: trained, saved, exported, and it says its text."""

import numpy as np
import pytest
import torch

from gptloop import TorchLoop
from gptloop.reference.parity import Judge
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def torch_loop(trained):
    return TorchLoop(trained.directory, device="cpu")


def windows(trained, prompt_len: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts from all over the text, and what follows each, to the model's last position."""
    rows = np.lib.stride_tricks.sliding_window_view(trained.ids, trained.model.config.n_positions)[::7]
    return rows[:, :prompt_len], rows[:, prompt_len:]


def test_the_text_is_reproduced_from_anywhere_in_it(trained):
    prompts, expected = windows(trained, 8)
    assert len(prompts) > 10
    found = trained.onnx.generate(prompts, max_new_tokens=expected.shape[1], temperature=0)
    np.testing.assert_array_equal(found, expected)


def test_the_whole_text_is_told_in_pieces_and_ends_by_itself(trained):
    """Each piece continues the 16 tokens before it, the first only the start of text."""
    ids = [0]
    while len(ids) < 2 * len(trained.ids):
        tokens = trained.onnx.generate([ids[-16:]], max_new_tokens=40, temperature=0, eos_token_id=0)[0].tolist()
        ids += tokens
        if ids[-1] == 0:
            break
    assert trained.tokenizer.decode(ids) == trained.end + trained.text + trained.end


def test_greedy_tokens_equal_hugging_face_generate(trained):
    prompts, _ = windows(trained, 6)
    ids = torch.tensor(np.ascontiguousarray(prompts))
    call = {"max_new_tokens": 58, "pad_token_id": 0, "eos_token_id": None}
    expected = trained.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **call)
    found = trained.onnx.generate(prompts, temperature=0, **call)
    np.testing.assert_array_equal(found, expected[:, 6:])


@pytest.mark.parametrize(
    "settings",
    [{}, {"temperature": 2.5}, {"top_k": 0, "temperature": 1.5}, {"top_p": 0.9}, {"min_p": 0.1, "temperature": 2.0}],
    ids=str,
)
def test_sampled_tokens_equal_the_torch_loops(trained, torch_loop, settings):
    """Where one token has nearly all the probability, as where temperature spreads it over many."""
    prompts, _ = windows(trained, 4)
    call = {"max_new_tokens": 40, "num_return_sequences": 3, "seed": 11, "eos_token_id": 0, **settings}
    request = check_request(trained.model.config, prompts, **call)
    expected, found = torch_loop.generate(prompts, **call), trained.onnx.generate(prompts, **call)
    Judge(trained.model).check(request, expected, found)


def test_the_distribution_is_peaked(trained):
    """What makes this model another ground than random weights, whose most likely token has some 1 % of all."""
    prompts, expected = windows(trained, 8)
    generation = trained.onnx.generate(prompts, max_new_tokens=expected.shape[1], temperature=0, return_logprobs=True)
    assert np.exp(generation.raw_logprobs.mean()) > 0.9


def test_sampling_at_temperature_1_mostly_says_the_text(trained):
    prompts, expected = windows(trained, 8)
    found = trained.onnx.generate(prompts, max_new_tokens=expected.shape[1], num_return_sequences=4, seed=5)
    right = (found == np.repeat(expected, 4, axis=0)).all(1)
    assert 0.3 < right.mean() < 1
