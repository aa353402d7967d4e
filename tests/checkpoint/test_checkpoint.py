"""Where weights come from: every layout gives the same model, and what does not fit is refused by name."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from gptloop import OnnxLoop, TorchLoop, checkpoint, export
from gptloop.checkpoint import Checkpoint, open_checkpoint, random_checkpoint
from gptloop.checkpoint.checkpoint import expected_shapes
from gptloop.checkpoint.seeded import SIZES

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# config.json of the published gpt2, its sizes aside: older than most of GPT2Config's fields.
PUBLISHED_CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 95,
    "embd_pdrop": 0.1,
    "eos_token_id": 95,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": 64,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 64,
    "resid_pdrop": 0.1,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 97,
}
CALL = {"max_new_tokens": 10, "num_return_sequences": 2, "seed": 3}
PROMPTS = [[5, 96, 0], [8, 8, 1]]


def short_keys(tensors):
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def with_buffers(tensors, prefix=""):
    """With the causal mask that transformers stored in every layer until 2023."""
    mask = torch.ones(64, 64).tril().bool()[None, None]
    buffers = {f"{prefix}h.{layer}.attn.bias": mask.clone() for layer in range(2)}
    scalars = {f"{prefix}h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
    return tensors | buffers | scalars


def with_head(tensors):
    """With the LM head stored beside the token embedding that it equals."""
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}


LAYOUTS = {
    "as transformers saves it": lambda tensors: tensors,
    "as published: short keys and buffers": lambda tensors: with_buffers(short_keys(tensors)),
    "short keys": short_keys,
    "long keys and buffers": lambda tensors: with_buffers(tensors, "transformer."),
    "a stored head": with_head,
}


@pytest.fixture(scope="module")
def stored(tiny):
    """The tiny model's tensors as transformers would save them."""
    return {name: p.detach().clone() for name, p in tiny.model.named_parameters()}


@pytest.fixture
def directory(tmp_path, stored):
    """Writes a model directory; config and tensors as given, the tiny model's unless given."""

    def write(tensors=stored, config=PUBLISHED_CONFIG, **changes):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path

    return write


def assert_equal_tensors(found: Checkpoint, expected: Checkpoint) -> None:
    assert set(found.tensors) == set(expected.tensors)
    for name in expected.tensors:
        torch.testing.assert_close(found.tensors[name], expected.tensors[name], rtol=0, atol=0)


# Layouts


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_every_layout_gives_the_same_tensors_and_tokens(tiny, stored, directory, tmp_path, layout):
    found = open_checkpoint(directory(layout(stored)))
    assert_equal_tensors(found, open_checkpoint(tiny.model))
    path = export(tmp_path, tmp_path / "model.onnx")
    for loop in (OnnxLoop(path, device="cpu"), TorchLoop(tmp_path, device="cpu")):
        np.testing.assert_array_equal(loop.generate(PROMPTS, **CALL), tiny.torch.generate(PROMPTS, **CALL))


def test_an_untied_head_is_read_as_it_is_stored(open_tiny, directory):
    tiny = open_tiny(tie_word_embeddings=False)
    tensors = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    found = open_checkpoint(directory(short_keys(tensors), tie_word_embeddings=False))
    assert_equal_tensors(found, open_checkpoint(tiny.model))
    assert not torch.equal(found.tensors["lm_head.weight"], found.tensors["wte.weight"])


def test_the_config_decides_whether_a_stored_head_counts(stored, directory):
    """As in transformers: tied means tied, whatever the file holds."""
    tensors = stored | {"lm_head.weight": torch.zeros(97, 32)}
    assert "lm_head.weight" not in open_checkpoint(directory(tensors)).tensors
    assert "lm_head.weight" in open_checkpoint(directory(tensors, tie_word_embeddings=False)).tensors


def test_a_directory_that_transformers_saved_can_be_read(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    assert_equal_tensors(open_checkpoint(str(tmp_path)), open_checkpoint(tiny.model))


def test_weights_in_several_files_are_found_by_their_index(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_equal_tensors(open_checkpoint(tmp_path), open_checkpoint(tiny.model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_exported_as_float32(stored, directory, tmp_path, dtype):
    """As if they had been converted first, from a directory as from a module."""
    narrow = {name: tensor.to(dtype) for name, tensor in stored.items()}
    directory({name: tensor.float() for name, tensor in narrow.items()})
    expected = OnnxLoop(export(tmp_path, tmp_path / "float32.onnx"), device="cpu").generate(PROMPTS, **CALL)

    directory(narrow)
    model = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=dtype)
    assert model.dtype == dtype
    for source in (tmp_path, model):
        path = export(source, tmp_path / "narrow.onnx")
        np.testing.assert_array_equal(OnnxLoop(path, device="cpu").generate(PROMPTS, **CALL), expected)
        np.testing.assert_array_equal(TorchLoop(source, device="cpu").generate(PROMPTS, **CALL), expected)


def test_a_model_in_training_mode_generates_as_in_evaluation(tiny, tiny_model, tmp_path):
    path = export(tiny_model().train(), tmp_path / "model.onnx")
    np.testing.assert_array_equal(
        OnnxLoop(path, device="cpu").generate(PROMPTS, **CALL), tiny.onnx.generate(PROMPTS, **CALL)
    )


# What is refused


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


def test_pickled_weights_are_not_read_and_the_message_says_what_to_do(directory, stored):
    path = directory()
    (path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing$"):
        open_checkpoint(path)
    torch.save(stored, path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="pickled weights are not read, save them again with safetensors"):
        open_checkpoint(path)


def test_a_missing_shard_is_named(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(str(shard))):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("eighths", range(8))
def test_a_truncated_safetensors_file_is_named(directory, eighths):
    file = directory() / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * eighths // 8])
    with pytest.raises(ValueError, match=re.escape(f"{file} is not a whole safetensors file")):
        open_checkpoint(file.parent)


def test_an_index_that_is_no_index_is_named(directory):
    path = directory()
    for text in ("{", "{}", '{"weight_map": 3}'):
        (path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=re.escape("model.safetensors.index.json")):
            open_checkpoint(path)


@pytest.mark.parametrize("missing", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_directory_that_does_not_exist_is_named(missing):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no such model directory: {missing}")):
        open_checkpoint(missing)


def test_a_path_is_never_taken_for_a_hub_id(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such model directory"):
        open_checkpoint(tmp_path / "gpt2")


@pytest.mark.parametrize("model", [None, 7, {"wte.weight": None}, GPT2Config], ids=str)
def test_something_that_is_no_model_is_a_type_error(model):
    with pytest.raises(TypeError, match="model must be a GPT2LMHeadModel, a hub id or a directory, got"):
        open_checkpoint(model)


# The hub


def test_a_hub_id_is_downloaded_without_pickles(directory, monkeypatch, tmp_path):
    directory()
    asked = {}

    def snapshot_download(repo_id, *, allow_patterns, **_):
        asked[repo_id] = allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    found = open_checkpoint("openai-community/gpt2")
    assert found.source == "openai-community/gpt2"
    assert list(asked) == ["openai-community/gpt2"]
    patterns = asked["openai-community/gpt2"]
    assert {"config.json", "*.safetensors", "*.safetensors.index.json"} <= set(patterns)
    assert not any("bin" in pattern or pattern == "*" for pattern in patterns)


def test_a_local_directory_comes_before_a_hub_id_of_its_name(directory, monkeypatch, tmp_path):
    name = directory().name
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    assert open_checkpoint(name).source == name


# Seeded random weights


@pytest.fixture
def tiny_size(monkeypatch):
    monkeypatch.setitem(SIZES, "gpt2", {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 31, "n_positions": 16})


def test_random_weights_depend_on_the_seed_alone(tiny_size):
    first, again, other = (random_checkpoint("gpt2", seed) for seed in (1, 1, 2))
    assert_equal_tensors(first, again)
    assert not torch.equal(first.tensors["wte.weight"], other.tensors["wte.weight"])
    assert (first.source, first.weights, other.weights) == ("gpt2", "random, seed 1", "random, seed 2")


def test_random_weights_leave_torchs_own_numbers_alone(tiny_size):
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    random_checkpoint("gpt2")
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_an_unknown_size_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=rf"unknown model size 'gpt3'.*{', '.join(SIZES)}"):
        random_checkpoint("gpt3")


# As published: https://huggingface.co/openai-community and distilbert/distilgpt2.
PARAMETERS = {
    "distilgpt2": 81_912_576,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.parametrize(("size", "parameters"), PARAMETERS.items())
def test_the_named_sizes_have_the_published_number_of_parameters(size, parameters):
    shapes = expected_shapes(GPT2Config(**SIZES[size]))
    assert sum(np.prod(shape) for shape in shapes.values()) == parameters


@pytest.mark.parametrize("changes", [{}, {"n_inner": 40}, {"n_layer": 3}], ids=str)
def test_expected_shapes_are_those_of_hugging_faces_model(tiny_model, changes):
    model = tiny_model(**changes)
    shapes = {name.removeprefix("transformer."): tuple(p.shape) for name, p in model.named_parameters()}
    assert expected_shapes(model.config) == shapes


def test_an_opened_checkpoint_is_taken_as_it_is(tiny):
    opened = open_checkpoint(tiny.model)
    assert checkpoint.open_checkpoint(opened) is opened
