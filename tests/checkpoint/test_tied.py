"""The LM head is what transformers takes it to be, whichever of the two shared tensors is stored, by what name."""

import itertools

import numpy as np
import pytest
import torch
from checkpoints import short_keys
from transformers import GPT2LMHeadModel

from gptloop import OnnxLoop, TorchLoop, export
from gptloop.checkpoint import open_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")

OTHER = torch.randn(97, 32, generator=torch.Generator().manual_seed(3))
PROMPT = [[5, 96, 0]]


def shared(stored):
    """What may be stored of the two tensors."""
    embedding = stored["transformer.wte.weight"]
    nearly = embedding.clone()
    nearly[3, 7] = nearly[3, 7].nextafter(torch.tensor(9.0))
    return {
        "both alike": {"transformer.wte.weight": embedding, "lm_head.weight": embedding.clone()},
        "both, and they differ": {"transformer.wte.weight": embedding, "lm_head.weight": OTHER},
        "both, and they differ in one bit": {"transformer.wte.weight": embedding, "lm_head.weight": nearly},
        "both, of other precisions": {"transformer.wte.weight": embedding, "lm_head.weight": embedding.half()},
        "both, one of them widened": {"transformer.wte.weight": embedding, "lm_head.weight": embedding.double()},
        "the embedding": {"transformer.wte.weight": embedding},
        "the head": {"lm_head.weight": OTHER},
        "the head by a longer name": {"transformer.lm_head.weight": OTHER},
        "both, with a longer name": {"transformer.wte.weight": embedding, "transformer.lm_head.weight": OTHER},
        "neither": {},
    }


def hugging_face(path):
    """The model as transformers loads it, and what it had to make up."""
    model, loading = GPT2LMHeadModel.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    return model.eval(), loading["missing_keys"]


@pytest.mark.parametrize("keys", [dict, short_keys], ids=["long keys", "short keys"])
@pytest.mark.parametrize("tied", [{}, {"tie_word_embeddings": True}, {"tie_word_embeddings": False}], ids=str)
def test_the_head_is_hugging_faces_or_refused_where_it_would_be_random(stored, directory, tied, keys):
    refused = []
    for name, tensors in shared(stored).items():
        others = {key: tensor for key, tensor in stored.items() if key != "transformer.wte.weight"}
        path = directory(keys(others | tensors), **tied)
        model, missing = hugging_face(path)
        if missing:
            refused.append(name)
            with pytest.raises(ValueError, match=r"the weights lack (wte|lm_head)\.weight"):
                open_checkpoint(path)
            continue
        found = open_checkpoint(path).tensors
        torch.testing.assert_close(found["wte.weight"].float(), model.transformer.wte.weight, rtol=0, atol=0)
        head = found.get("lm_head.weight", found["wte.weight"])
        torch.testing.assert_close(head.float(), model.lm_head.weight, rtol=0, atol=0)
        tied_there = model.lm_head.weight is model.transformer.wte.weight
        assert ("lm_head.weight" not in found) == tied_there, "which one copy of it takes half the room"
    untied = tied.get("tie_word_embeddings") is False
    assert refused == (["the embedding", "the head", "the head by a longer name"] if untied else []) + ["neither"]


@pytest.mark.parametrize("name", ["both, and they differ", "the head", "both, with a longer name"])
def test_its_tokens_are_hugging_faces(stored, directory, tmp_path, name):
    others = {key: tensor for key, tensor in stored.items() if key != "transformer.wte.weight"}
    path = directory(others | shared(stored)[name], eos_token_id=None)
    model, _ = hugging_face(path)
    ids = torch.tensor(PROMPT)
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)[:, 3:]
    for loop in (OnnxLoop(export(path, tmp_path / "model.onnx"), device="cpu"), TorchLoop(path, device="cpu")):
        np.testing.assert_array_equal(loop.generate(PROMPT, max_new_tokens=12, temperature=0), expected.numpy())


NAMES = ["wte.weight", "transformer.wte.weight", "transformer.transformer.wte.weight"]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(NAMES, 2)))
def test_a_tensor_stored_by_two_names_is_refused(stored, directory, first, second):
    others = {key: tensor for key, tensor in stored.items() if key != "transformer.wte.weight"}
    with pytest.raises(ValueError, match=r"wte.weight is stored twice, as .*wte.weight in model.safetensors and as "):
        open_checkpoint(directory(others | {first: OTHER, second: OTHER.clone()}))
