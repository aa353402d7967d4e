"""What does not fit or is no GPT-2 is refused by name."""

import logging
import re
import tracemalloc

import numpy as np
import pytest
import torch
from checkpoints import CALL, PROMPTS, assert_equal_tensors
from transformers import GPT2Config, GPT2LMHeadModel

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
        ({"n_layer": 3}, "the weights lack h.2.ln_1.weight, and n_layer is 3"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon must be a finite number of at least 0, got nan"),
        ({"layer_norm_epsilon": float("inf")}, "layer_norm_epsilon must be a finite number of at least 0, got inf"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon must be a finite number of at least 0, got -1e-05"),
        ({"quantization_config": {"load_in_8bit": True}}, "quantization_config is not supported"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights is not supported"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings"),
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


HOSTILE = "x\x1b[2J\n" * 20_000


@pytest.mark.parametrize(
    "field", ["model_type", "activation_function", "n_embd", "quantization_config", "tie_word_embeddings", "n_layer"]
)
def test_a_message_repeats_little_of_a_hostile_value(directory, field):
    with pytest.raises(ValueError, match=field) as error:
        open_checkpoint(directory(**{field: HOSTILE}))
    message = str(error.value)
    assert len(message) < 500
    assert message.isprintable()


def test_transformers_logs_nothing_before_a_refusal(directory):
    """It would say, once for each id, that this is not in the vocabulary, in lines of its own."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    library = logging.getLogger("transformers")
    library.addHandler(handler)
    try:
        with pytest.raises(ValueError, match="n_head"):
            open_checkpoint(directory(eos_token_id=50001, torch_dtype="float32", n_head=5))
        assert records == []
        GPT2Config(vocab_size=97, eos_token_id=50002)
        assert records, "which is what it logs"
    finally:
        library.removeHandler(handler)


def test_what_says_nothing_about_the_model_is_not_looked_at(tiny, directory):
    """Transformers would make names for as many labels as this, and look for the dtype in torch."""
    path = directory(num_labels=10**12, dtype="float4096", torch_dtype=3, label2id=3, id2label=4)
    assert_equal_tensors(open_checkpoint(path), open_checkpoint(tiny.model))


@pytest.mark.parametrize("sizes", [{"n_layer": 10**6}, {"n_layer": 10**30}, {"vocab_size": 10**15}, {"n_embd": 10**15}])
def test_impossible_sizes_are_refused_before_there_is_room_for_them(directory, sizes):
    path = directory(**sizes, n_head=1)
    tracemalloc.start()
    with pytest.raises(ValueError, match=str(next(iter(sizes.values())))):
        open_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20, "10^6 layers' names alone are 2 GB"


OTHER_TYPES = ["int8", "int64", "uint8", "bool", "float8_e4m3fn", "float8_e5m2", "complex64"]


@pytest.mark.parametrize("name", ["transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.bias", "lm_head.weight"])
@pytest.mark.parametrize("dtype", OTHER_TYPES)
def test_weights_of_a_type_that_weights_do_not_have_are_refused(stored, directory, dtype, name):
    tensor = stored.get(name, stored["transformer.wte.weight"]).to(getattr(torch, dtype))
    expected = (
        f"{name.removeprefix('transformer.')} is of type torch.{dtype}, weights must be one of float16, bfloat16, "
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        open_checkpoint(directory(stored | {name: tensor}))


def test_a_module_without_values_is_refused():
    with torch.device("meta"):
        model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=2))
    with pytest.raises(ValueError, match=r"wte.weight has no values, it is on torch's meta device"):
        open_checkpoint(model)
