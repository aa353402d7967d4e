"""The rewriting of a checkpoint for int8: the same function, without what int8 loses."""

import numpy as np
import pytest
import torch
from outliers import CHANNELS, layer_norm_outliers, value_outliers

from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.calibration import calibrate
from gptloop.exporter.folding import LEAST_RANGE, RANGE, STEPS, folded_tensors
from gptloop.exporter.rotation import factors, rotate


@pytest.mark.parametrize("D", [1, 2, 31, 64])
def test_the_rotation_is_its_own_inverse_and_keeps_means_and_norms(D):
    x = torch.randn(5, D, generator=torch.Generator().manual_seed(D))
    turned = rotate(x)
    torch.testing.assert_close(rotate(turned), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned.mean(1), x.mean(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(turned.norm(dim=1), x.norm(dim=1))


def test_a_layer_norm_does_not_notice_the_rotation():
    x = torch.randn(9, 48, generator=torch.Generator().manual_seed(0)) * 3 + 1
    norm = torch.nn.functional.layer_norm
    torch.testing.assert_close(norm(rotate(x), (48,)), rotate(norm(x, (48,))), rtol=0, atol=1e-5)


def test_rotating_along_either_axis_is_the_same_matrix():
    x = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(rotate(x, axis=0), rotate(x.T).T)


@pytest.mark.parametrize("D", [768, 1024, 1280, 1600])
def test_an_outlier_channel_is_spread_over_all(D):
    rows = torch.eye(D) * D**0.5  # all of a normalized row in one channel
    assert rotate(rows).abs().max() < RANGE


def test_a_rotation_is_two_small_matrices():
    left, right = factors(768)
    x = torch.randn(768, generator=torch.Generator().manual_seed(0))
    assert (left.shape, right.shape) == ((24, 24), (32, 32))
    torch.testing.assert_close(torch.kron(left, right) @ x, rotate(x))


@pytest.mark.parametrize("tied", [True, False])
def test_the_folded_model_gives_hugging_faces_logits(tiny_model, tied):
    model = tiny_model(tie_word_embeddings=tied)
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 97, (2, 20)))
    tensors = {name: read() for name, read in folded_tensors(open_checkpoint(model)).items()}
    with torch.inference_mode():
        torch.testing.assert_close(logits(model.config, tensors, ids), model(ids).logits, rtol=0, atol=2e-3)


def test_moved_outliers_fold_back_to_the_same_tensors(trained):
    plain = open_checkpoint(trained.model)
    moved = open_checkpoint(value_outliers(layer_norm_outliers(trained.model, 64), 32))
    expected, found = (
        {name: read() for name, read in folded_tensors(checkpoint).items()} for checkpoint in (plain, moved)
    )
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-4, msg=name)


def test_a_calibration_sees_the_context_channels_and_the_range(trained):
    factor = 30.0
    plain, moved = (
        calibrate(open_checkpoint(model), trained.ids)
        for model in (trained.model, value_outliers(trained.model, factor))
    )
    assert plain.tokens == len(trained.ids)
    for before, after in zip(plain.context, moved.context, strict=True):
        torch.testing.assert_close(after[list(CHANNELS)], before[list(CHANNELS)] * factor, rtol=1e-3, atol=1e-4)
    scale = folded_tensors(open_checkpoint(trained.model), plain)["h.0.attn.c_attn.input_scale"]()
    assert float(scale) == pytest.approx(max(plain.normed["h.0.attn.c_attn"], LEAST_RANGE) / STEPS)


def test_what_a_short_text_has_not_reached_is_not_cut(trained):
    seen = calibrate(open_checkpoint(trained.model), trained.ids[:1])
    assert seen.normed["h.1.mlp.c_fc"] < LEAST_RANGE
    scale = folded_tensors(open_checkpoint(trained.model), seen)["h.1.mlp.c_fc.input_scale"]()
    assert float(scale) == pytest.approx(LEAST_RANGE / STEPS)


def test_a_calibration_runs_the_embedding_and_the_head_that_are_exported(tiny_model):
    """Where they differ, both are used, whatever the configuration says."""
    model = tiny_model(tie_word_embeddings=False)
    expected = calibrate(open_checkpoint(model), range(90))
    model.config.tie_word_embeddings = True
    assert calibrate(open_checkpoint(model), range(90)).normed == expected.normed


@pytest.mark.parametrize("factor", [1e-25, 1e-15, 1e15, 1e25])
def test_channels_as_large_as_float32_goes_fold_back_too(tiny_model, factor):
    """The squares of their numbers are beyond it."""
    model, moved = tiny_model(), tiny_model()
    with torch.no_grad():
        block = moved.transformer.h[0]
        block.attn.c_attn.weight[:, 64] *= factor
        block.attn.c_attn.bias[64] *= factor
        block.attn.c_proj.weight[0] /= factor
    expected, found = (folded_tensors(open_checkpoint(x))["h.0.attn.c_proj.weight"]() for x in (model, moved))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([], r"row of at least 1 token id, got .* of shape \[0\]"),
        ([[1, 2]], r"of shape \[1, 2\]"),
        ([1.5], "float64"),
        (torch.ones(3, dtype=torch.bfloat16), "array in memory: .*BFloat16"),
        ([97], r"within 0..96 \(vocab_size 97\), got 97..97"),
        ([-1, 3], "got -1..3"),
    ],
)
def test_ids_that_calibrate_nothing_are_refused(tiny_model, ids, words):
    with pytest.raises(ValueError, match=words):
        calibrate(open_checkpoint(tiny_model()), ids)


def logits(config, tensors, ids):
    """The forward pass, as the int8 graph computes it, in float32."""
    F, D, H = torch.nn.functional, config.n_embd, config.n_head
    t = tensors

    def norm(name, x):
        return F.layer_norm(x, (D,), t[f"{name}.weight"], t[f"{name}.bias"], config.layer_norm_epsilon)

    def linear(name, x):
        return x @ t[f"{name}.weight"] + t[f"{name}.bias"]

    x = t["wte.weight"][ids] + t["wpe.weight"][: ids.shape[1]]
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        q, k, v = (
            part.unflatten(2, (H, D // H)).transpose(1, 2)
            for part in linear(f"{h}.attn.c_attn", norm(f"{h}.ln_1", x)).split(D, -1)
        )
        context = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        x = x + linear(f"{h}.attn.c_proj", context.transpose(1, 2).flatten(2))
        inner = F.gelu(linear(f"{h}.mlp.c_fc", norm(f"{h}.ln_2", x)), approximate="tanh")
        x = x + linear(f"{h}.mlp.c_proj", inner)
    x = norm("ln_f", x)
    if "lm_head.weight" in t:
        return x @ t["lm_head.weight"].T + t["lm_head.bias"]
    x = rotate(rotate(x) * t["ln_f.channels.weight"].flatten() + t["ln_f.channels.bias"].flatten())
    return x @ t["wte.weight"].T
