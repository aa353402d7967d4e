"""Generation: OnnxLoop, TorchLoop, Hugging Face and onnx's ReferenceEvaluator give the same tokens.

Where two of our own loops are compared while sampling, a difference is judged as gptloop.reference.parity rules.
Elsewhere tokens are compared for equality: over these few thousand draws with fixed seeds no near-tie stands in the
way.
"""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from gptloop import OnnxLoop, TorchLoop
from gptloop.graph.transformer import ACTIVATIONS
from gptloop.reference.parity import Judge
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

VARIANTS = {
    "as it comes": {},
    "one layer": {"n_layer": 1},
    "untied head": {"tie_word_embeddings": False},
    "n_inner": {"n_inner": 40},
    "one head": {"n_head": 1},
    "head_dim 12": {"n_embd": 36, "n_head": 3},  # whose root is no power of two
    "scores not scaled": {"scale_attn_weights": False},
    "scores scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
    "large epsilon": {"layer_norm_epsilon": 0.1},
    **{name: {"activation_function": name} for name in sorted(ACTIVATIONS)},
}
variant = pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3], [90, 2, 77, 31, 31]])


def hugging_face_greedy(model, prompts: np.ndarray, max_new_tokens: int) -> np.ndarray:
    ids = torch.from_numpy(prompts)
    tokens = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=0
    )
    return tokens[:, prompts.shape[1] :].numpy()


def assert_same_tokens(tiny, prompts: np.ndarray, **call) -> None:
    """OnnxLoop and TorchLoop give the same tokens, near-ties excepted."""
    call = {"num_return_sequences": 1, "temperature": 1.0, "top_k": 50, "seed": 0, **call}
    request = check_request(tiny.model.config, prompts, **call)
    expected, found = tiny.torch.generate(prompts, **call), tiny.onnx.generate(prompts, **call)
    Judge(tiny.model).check(request, expected, found)


# Against Hugging Face


@variant
def test_greedy_tokens_equal_hugging_face_generate(open_tiny, changes):
    tiny = open_tiny(**changes)
    expected = hugging_face_greedy(tiny.model, PROMPTS, 20)
    assert len(np.unique(expected)) > 3, "a constant text would prove little"
    np.testing.assert_array_equal(tiny.onnx.generate(PROMPTS, max_new_tokens=20, temperature=0), expected)
    np.testing.assert_array_equal(tiny.torch.generate(PROMPTS, max_new_tokens=20, temperature=0), expected)


@variant
@torch.inference_mode()
def test_the_torch_loop_computes_hugging_faces_logits(tiny_model, changes):
    """With and without the KV cache. In float64, where only another formula could differ by more than rounding."""
    model = tiny_model(**changes)
    loop = TorchLoop(model, device="cpu", dtype=torch.float64)
    ids = torch.from_numpy(PROMPTS)
    # gelu_fast alone stands out: transformers writes the root of 2 / pi with ten digits, 4e-12 off.
    close = {"rtol": 0, "atol": 1e-9}
    logits = model.double()(ids).logits
    found, cache = loop.prefill(ids[:, :2], new_tokens=4)
    torch.testing.assert_close(found, logits[:, 1], **close)
    for position in range(2, 5):
        found = loop.decode_one_token(ids[:, position], cache, past_len=position)
        torch.testing.assert_close(found, logits[:, position], **close)


@torch.inference_mode()
def test_the_torch_loop_computes_in_float32_unless_told_otherwise(tiny):
    ids = torch.from_numpy(PROMPTS)
    found, _ = tiny.torch.prefill(ids, new_tokens=1)
    logits = tiny.model(ids).logits[:, -1]
    assert found.dtype == torch.float32
    # Logits of up to about 10, each the sum of some 100 rounded products: 10 * 100 * 2^-24 = 6e-5.
    torch.testing.assert_close(found, logits, rtol=0, atol=6e-5)


# OnnxLoop against TorchLoop


@variant
def test_sampled_tokens_equal_the_torch_loops(open_tiny, changes):
    assert_same_tokens(
        open_tiny(**changes),
        PROMPTS,
        max_new_tokens=20,
        num_return_sequences=4,
        temperature=[1.0, 0.7, 1.5],
        top_k=[50, 5, 97],
        seed=[0, 2**63 - 1, 2**40],
    )


@given(
    prompts=st.integers(1, 3),
    prompt_len=st.integers(1, 63),
    max_new_tokens=st.integers(1, 63),
    num_return_sequences=st.integers(1, 4),
    temperature=st.one_of(st.just(0.0), st.floats(0.0625, 3)),
    top_k=st.integers(0, 97),
    seed=st.integers(0, 2**63 - 4),
)
@example(prompts=1, prompt_len=1, max_new_tokens=1, num_return_sequences=1, temperature=1, top_k=50, seed=0)
@example(prompts=1, prompt_len=1, max_new_tokens=63, num_return_sequences=1, temperature=1, top_k=0, seed=1)
@example(prompts=2, prompt_len=63, max_new_tokens=1, num_return_sequences=3, temperature=1, top_k=1, seed=2)
@example(prompts=3, prompt_len=32, max_new_tokens=32, num_return_sequences=3, temperature=1, top_k=97, seed=3)
@example(prompts=1, prompt_len=7, max_new_tokens=2, num_return_sequences=1, temperature=0, top_k=0, seed=4)
def test_calls_of_any_shape_give_the_torch_loops_tokens(tiny, prompts, prompt_len, max_new_tokens, **call):
    max_new_tokens = min(max_new_tokens, 64 - prompt_len)
    ids = np.random.default_rng(prompt_len).integers(0, 97, (prompts, prompt_len))
    assert_same_tokens(tiny, ids, max_new_tokens=max_new_tokens, **call)


def test_a_model_of_equal_logits_gives_the_same_tokens_in_both_loops(tiny_model, tmp_path):
    """Where every logit ties with every other, the rule on ties decides every token: lower ids first."""
    from gptloop import export  # noqa: PLC0415

    model = tiny_model(n_layer=1)
    with torch.no_grad():
        model.transformer.ln_f.weight.zero_()
        model.transformer.ln_f.bias.zero_()
    onnx_loop = OnnxLoop(export(model, tmp_path / "flat.onnx"), device="cpu")
    call = {"max_new_tokens": 6, "num_return_sequences": 8, "top_k": 3}
    found = onnx_loop.generate([[1, 2]], **call)
    assert set(found.ravel()) == {0, 1, 2}
    np.testing.assert_array_equal(found, TorchLoop(model, device="cpu").generate([[1, 2]], **call))
