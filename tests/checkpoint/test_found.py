"""A model is found by folder or hub id; what is given instead of one is told what it is."""

import re

import pytest
import torch
from checkpoints import assert_equal_tensors, short_keys, with_buffers, with_head
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file
from transformers import GPT2Config

from gptloop.checkpoint import open_checkpoint
from gptloop.cli import main

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_file_given_instead_of_its_folder_is_told_so(directory, file, kind):
    path = directory() / file
    path.touch()
    with pytest.raises(ValueError, match=re.escape(f"{path} is a file; give the folder that holds the weights")):
        open_checkpoint(kind(path))


PATHS = ["my model", "", "~/gpt2", "models\\gpt2", "gpt2/", "model.safetensors", "out/pytorch_model.bin", "-rf"]
HOSTILE = ["a\0b", "x" * 100_000, "x" * 300 + "/y", "mod\udcc3l"]


@pytest.mark.parametrize("missing", PATHS + HOSTILE, ids=lambda name: repr(name)[:12])
def test_what_can_be_no_hub_id_is_not_asked_for(monkeypatch, tmp_path, missing):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(FileNotFoundError, match="no such model directory: ") as error:
        open_checkpoint(missing)
    assert len(str(error.value)) < 300
    str(error.value).encode()


class ConnectError(Exception):
    """As those of HTTP libraries, of no class that the hub's library documents."""


@pytest.mark.parametrize(
    "cause",
    [
        LocalEntryNotFoundError("offline"),
        HFValidationError("Repo id must be"),
        ConnectError("no route\n\nto host"),
        PermissionError(13, "Permission denied", "/home/nobody/.cache"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_name_that_is_neither_a_folder_nor_on_the_hub_is_said_to_be_so(monkeypatch, tmp_path, capsys, cause):
    def snapshot_download(hub_id, allow_patterns):
        raise cause

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert main(["export", "models/gtp2", "-o", "model.onnx"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gptloop: error: no such model directory: models/gtp2; nor did the hub give it: ")
    assert str(cause).split()[0] in line


@pytest.mark.parametrize("there", [["config.json"], []], ids=["config.json", "nothing"])
def test_a_hub_repository_of_pickles_is_told_what_to_do(directory, monkeypatch, there):
    """None of them is downloaded, so that the folder does not show them."""
    path = directory()
    for file in path.iterdir():
        if file.name not in there:
            file.unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(path))
    with pytest.raises(
        FileNotFoundError, match=r"^someone/gpt2: .* is missing; .*pickled weights .* are not, save them"
    ):
        open_checkpoint("someone/gpt2")


def test_without_a_network_the_hub_library_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "nobody" / "cache"))
    with pytest.raises(FileNotFoundError, match="no such model directory: models/gtp2; nor did the hub give it: "):
        open_checkpoint("models/gtp2")


# Weights of something around the model


@pytest.mark.parametrize("also", [["config.json", "model.safetensors"], ["config.json"], []], ids=str)
def test_an_adapters_folder_is_told_to_be_merged(directory, stored, also):
    path = directory()
    for file in path.iterdir():
        if file.name not in also:
            file.unlink()
    (path / "adapter_config.json").write_text('{"base_model_name_or_path": "gpt2"}')
    save_file(stored, path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"holds a PEFT adapter; merge it into its model first"):
        open_checkpoint(path)


def test_an_adapters_tensors_are_told_to_be_merged(directory, stored, tiny_model):
    lora = {f"base_model.model.{name}": tensor for name, tensor in stored.items()}
    lora["base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight"] = torch.zeros(4, 32)
    with pytest.raises(ValueError, match="are a PEFT adapter's; merge it into its model first"):
        open_checkpoint(directory(lora))
    model = tiny_model()
    model.transformer.h[0].attn.c_attn.base_layer = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="are a PEFT adapter's; merge it into its model first"):
        open_checkpoint(model)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "base_model.model.", "gpt2."])
@pytest.mark.parametrize("keys", [dict, short_keys, with_head, with_buffers], ids=lambda keys: keys.__name__)
def test_a_prefix_that_all_names_share_is_taken_off(tiny, directory, stored, prefix, keys):
    """DataParallel and torch.compile put one there."""
    path = directory({prefix + name: tensor for name, tensor in keys(stored).items()})
    assert_equal_tensors(open_checkpoint(path), open_checkpoint(tiny.model))


def test_a_prefix_of_some_names_only_is_named(directory, stored):
    tensors = {f"gpt2.{name}": tensor for name, tensor in stored.items()} | {"head.weight": torch.zeros(3)}
    count = len(stored)
    expected = f"{count} of {count + 1} tensors' names begin with gpt2., and others, such as head.weight, do not"
    with pytest.raises(ValueError, match=re.escape(expected)):
        open_checkpoint(directory(tensors))


def test_another_models_tensors_are_one_error(directory, stored):
    """Not a warning for each of them first, and none of their names in full."""
    names = {name: name.replace("transformer", "model") + "x" * 100_000 for name in stored}
    path = directory({names[name]: tensor[..., :1].clone() for name, tensor in stored.items()})
    with pytest.raises(ValueError, match=r"the weights lack wte\.weight") as error:
        open_checkpoint(path)
    assert len(str(error.value)) < 300


def test_many_tensors_of_other_tasks_are_one_warning(directory, stored):
    heads = {f"multiple_choice_head.{index}.weight": torch.zeros(3) for index in range(57)}
    with pytest.warns(UserWarning, match=r"multiple_choice_head.*is left out \(like 56 more\)") as warned:
        open_checkpoint(directory(stored | heads))
    assert [warning.filename for warning in warned] == [__file__]
