"""Where weights come from: every layout gives the same model, and random weights are seeded."""

import numpy as np
import pytest
import torch
from checkpoints import CALL, PROMPTS, assert_equal_tensors, short_keys, with_buffers, with_head
from transformers import GPT2Config, GPT2LMHeadModel

from gptloop import OnnxLoop, TorchLoop, checkpoint, export
from gptloop.checkpoint import open_checkpoint, random_checkpoint
from gptloop.checkpoint.checkpoint import expected_shapes
from gptloop.checkpoint.seeded import SIZES

pytestmark = pytest.mark.usefixtures("one_torch_thread")

LAYOUTS = {
    "as transformers saves it": lambda tensors: tensors,
    "as published: short keys and buffers": lambda tensors: with_buffers(short_keys(tensors)),
    "short keys": short_keys,
    "long keys and buffers": lambda tensors: with_buffers(tensors, "transformer."),
    "a stored head": with_head,
}


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
