"""How often which tokens are drawn, against Hugging Face's distribution of them."""

import numpy as np
import pytest
import scipy.stats
import torch
from draws import hugging_face_probabilities

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Below this, "the tokens are drawn from the model's distribution" is rejected. The seeds are fixed, so a passing test
# stays passing; one wrong seed in a thousand would have failed when it was chosen.
SIGNIFICANCE = 1e-3
CANDIDATES = 4000


def two_token_probabilities(model, prompt: list[int], temperature: float, top_k: int) -> np.ndarray:
    """The probability of each pair of new tokens, [V * V], from Hugging Face's model and processors."""
    with torch.no_grad():
        first = model(torch.tensor([prompt])).logits[:, -1].numpy()
        second = model(torch.tensor([[*prompt, token] for token in range(model.config.vocab_size)])).logits[:, -1]
    joint = hugging_face_probabilities(first, temperature, top_k).T
    return (joint * hugging_face_probabilities(second.numpy(), temperature, top_k)).ravel()


def p_value(counts: np.ndarray, probabilities: np.ndarray) -> float:
    assert counts[probabilities == 0].sum() == 0
    counts, expected = counts[probabilities > 0], probabilities[probabilities > 0] * counts.sum()
    rare = expected < 5  # the test wants at least 5 expected in every cell: these become one
    if rare.any():
        counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return float(scipy.stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (1.5, 3), (0.6, 4)])
def test_sampled_frequencies_pass_a_chi_square_test(open_tiny, temperature, top_k):
    """Of pairs of new tokens, one drawn after prefill and one in the Loop; and fail it for another temperature."""
    tiny = open_tiny(n_layer=1, vocab_size=5)
    prompt = [3, 1, 4, 1]
    sequences = tiny.onnx.generate(
        [prompt],
        max_new_tokens=2,
        num_return_sequences=CANDIDATES,
        temperature=temperature,
        top_k=top_k,
        seed=20220101,
    )
    counts = np.bincount(sequences[:, 0] * 5 + sequences[:, 1], minlength=25)
    assert p_value(counts, two_token_probabilities(tiny.model, prompt, temperature, top_k)) > SIGNIFICANCE
    assert p_value(counts, two_token_probabilities(tiny.model, prompt, temperature * 1.2, top_k)) < SIGNIFICANCE
