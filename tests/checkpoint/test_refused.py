"""What does not fit or is no GPT-2 is refused by name."""

import re

import numpy as np
import pytest
import torch
from checkpoints import CALL, PROMPTS

from gptloop import OnnxLoop, export
from gptloop.checkpoint import open_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(
    ("name", "named"),
    [("transformer.h.1.mlp.c_fc.bias", "h.1.mlp.c_fc.bias"), ("transformer.wte.weight", "wte.weight")],
)
def test_a_missing_tensor_is_refused_by_name(stored, directory, name, named):
    with pytest.raises(ValueError, match=re.escape(f"lack {named}")):
        open_checkpoint(directory({key: tensor for key, tensor in stored.items() if key != name}))


def test_a_tensor_of_the_wrong_shape_is_refused_with_both_shapes(stored, directory):
    """A product stored [out, in], as torch's Linear has it, is the likeliest."""
    stored = stored | {"transformer.h.0.mlp.c_fc.weight": torch.zeros(128, 32)}
    expected = "h.0.mlp.c_fc.weight is [128, 32], the configuration wants [32, 128]"
    with pytest.raises(ValueError, match=re.escape(expected)):
        open_checkpoint(directory(stored))


@pytest.mark.parametrize(
    "extra", ["transformer.h.2.ln_1.weight", "h.0.attn.q_proj.weight", "h.0.crossattention.c_attn.bias"]
)
def test_a_tensor_of_a_layer_that_the_configuration_lacks_is_refused(stored, directory, extra):
    with pytest.raises(ValueError, match=re.escape(extra.removeprefix("transformer."))):
        open_checkpoint(directory(stored | {extra: torch.zeros(3)}))


def test_a_tensor_of_another_task_is_left_out_with_a_warning(tiny, stored, directory, tmp_path):
    directory(stored | {"score.weight": torch.zeros(512, 32)})
    with pytest.warns(UserWarning, match="score.weight is no part of a language model and is left out"):
        path = export(tmp_path, tmp_path / "model.onnx")
    (data,) = tmp_path.glob("*.data")
    assert data.stat().st_size == sum(file.stat().st_size for file in tiny.path.parent.glob("*.data"))
    np.testing.assert_array_equal(
        OnnxLoop(path, device="cpu").generate(PROMPTS, **CALL), tiny.onnx.generate(PROMPTS, **CALL)
    )


def test_an_untied_head_that_is_missing_is_refused(directory):
    with pytest.raises(ValueError, match=r"tie_word_embeddings is false, but the weights lack lm_head.weight"):
        open_checkpoint(directory(tie_word_embeddings=False))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"activation_function": "quick_gelu"}, "activation_function 'quick_gelu' is not one of gelu, "),
        ({"add_cross_attention": True}, "add_cross_attention=True is not supported"),
        ({"model_type": "gpt_neo"}, "model_type must be 'gpt2', got 'gpt_neo'"),
        ({"n_head": 5}, "n_embd 32 is not a multiple of n_head 5"),
        ({"n_layer": 0}, "n_layer must be at least 1, got 0"),
        ({"n_head": 0}, "n_head must be at least 1, got 0"),
        ({"n_layer": 1}, "h.1."),
        ({"n_inner": 64}, "h.0.mlp.c_fc.weight is [32, 128], the configuration wants [32, 64]"),
        ({"n_inner": 0}, "n_inner"),
        ({"vocab_size": 98}, "wte.weight is [97, 32], the configuration wants [98, 32]"),
        ({"n_positions": 32}, "wpe.weight is [64, 32], the configuration wants [32, 32]"),
        ({"n_embd": "wide"}, "n_embd"),
    ],
    ids=str,
)
def test_a_configuration_that_the_graph_would_get_wrong_is_refused_by_name(directory, changes, named):
    path = directory(**changes)
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        open_checkpoint(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("changes", [{"activation_function": "quick_gelu"}, {"add_cross_attention": True}], ids=str)
def test_a_module_is_held_to_the_same_rules_as_a_directory(tiny_model, changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        open_checkpoint(tiny_model(**changes))


@pytest.mark.parametrize("text", ["{", "[]", '"gpt2"'])
def test_a_config_json_that_is_none_is_refused_by_name(directory, text):
    path = directory()
    (path / "config.json").write_text(text)
    with pytest.raises((ValueError, OSError), match=re.escape("config.json")):
        open_checkpoint(path)


def test_a_missing_config_json_is_named(directory):
    path = directory()
    (path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{path / 'config.json'} is missing")):
        open_checkpoint(path)
