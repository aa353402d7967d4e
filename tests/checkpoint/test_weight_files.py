"""Which files are read, where they may lie, and what is said of those that are missing."""

import re

import pytest
import torch
from transformers import GPT2Config

from gptloop.checkpoint import open_checkpoint

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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


# Paths and hub ids


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
