"""Which files of a folder are read, and where they may lie."""

import json
import os
import re
import shutil

import pytest
import torch
from checkpoints import assert_equal_tensors
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

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
    (path / "model.safetensors").unlink()
    for text in (
        "{",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 3}}',
        "[" * 100_000,
        '{"weight_map": ' + "9" * 5000,
    ):
        (path / "model.safetensors.index.json").write_text(text)
        with pytest.raises(ValueError, match=re.escape("model.safetensors.index.json")) as error:
            open_checkpoint(path)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize("shards", ["there", "gone"])
def test_a_single_file_comes_before_an_old_index(tiny_model, tmp_path, shards):
    tiny_model(weights_seed=1).save_pretrained(tmp_path, max_shard_size="40KB")
    index = (tmp_path / "model.safetensors.index.json").read_text()
    old = {file.name: file.read_bytes() for file in tmp_path.glob("model-*.safetensors")}
    new = tiny_model(weights_seed=2)
    new.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(index)
    for name in old if shards == "there" else ():
        (tmp_path / name).write_bytes(old[name])
    assert_equal_tensors(open_checkpoint(tmp_path), open_checkpoint(new))
    assert_equal_tensors(open_checkpoint(GPT2LMHeadModel.from_pretrained(tmp_path)), open_checkpoint(new))


def test_a_tensor_in_two_shards_is_refused(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path, max_shard_size="40KB")
    first, second = sorted(tmp_path.glob("model-*.safetensors"))[:2]
    tensors = load_file(first)
    name = next(iter(tensors))
    save_file(load_file(second) | {name: tensors[name] + 1}, second)
    expected = f"is stored twice, as {name} in {first.name} and as {name} in {second.name}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        open_checkpoint(tmp_path)


# Where they may lie


@pytest.fixture
def secret(tmp_path, tiny_model):
    """A model in another folder, and beside it one with a config.json of the same sizes only."""
    tiny_model().save_pretrained(tmp_path / "secret")
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "secret" / "config.json", tmp_path / "folder")
    return tmp_path / "secret" / "model.safetensors"


@pytest.mark.parametrize(
    "name", ["../secret/model.safetensors", "{secret}", "sub/x.safetensors", "..", ".", "", "a\0b", "x" * 100_000]
)
def test_an_index_may_name_files_of_its_folder_only(secret, tmp_path, name):
    named = name.format(secret=secret)
    index = {"weight_map": {"transformer.wte.weight": named}}
    (tmp_path / "folder" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="may only name files in itself, got '") as error:
        open_checkpoint(tmp_path / "folder")
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("link", ["config.json", "model.safetensors", "generation_config.json", "adrift", "shard"])
def test_a_link_out_of_the_folder_is_refused(secret, tmp_path, link):
    folder = tmp_path / "folder"
    if link in ("config.json", "generation_config.json"):
        shutil.copy(secret, folder)
        (folder / link).unlink(missing_ok=True)
        (folder / link).symlink_to(secret.parent / link)
    elif link == "shard":
        (folder / "shard.safetensors").symlink_to(secret)
        index = {"weight_map": {"transformer.wte.weight": "shard.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        (folder / "model.safetensors").symlink_to(secret if link == "model.safetensors" else tmp_path / "gone")
    with pytest.raises(ValueError, match="is a link out of its folder, to "):
        open_checkpoint(folder)


def test_a_hub_caches_links_and_a_volumes_are_followed(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path / "saved")
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "models--a--b" / "blobs"
    volume = tmp_path / "volume"
    for folder in (snapshot, blobs, volume / "..2026"):
        folder.mkdir(parents=True)
    (volume / "..data").symlink_to("..2026")  # as Kubernetes mounts a ConfigMap
    for file in (tmp_path / "saved").iterdir():
        shutil.copy(file, blobs / f"hash-{file.stem}")
        (snapshot / file.name).symlink_to(f"../../blobs/hash-{file.stem}")
        shutil.copy(file, volume / "..2026")
        (volume / file.name).symlink_to(f"..data/{file.name}")
    (tmp_path / "link").symlink_to(tmp_path / "saved")
    for folder in (snapshot, volume, tmp_path / "link"):
        assert_equal_tensors(open_checkpoint(folder), open_checkpoint(tiny.model))
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../../saved/config.json")
    with pytest.raises(ValueError, match=re.escape("config.json is a link out of its folder")):
        open_checkpoint(snapshot)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors"])
def test_what_is_no_regular_file_is_not_waited_for(directory, name):
    path = directory()
    (path / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    if name == "generation_config.json":  # and config.json says what ends a text, as in transformers
        assert open_checkpoint(path).generation.eos_token_ids == (95,)
        return
    with pytest.raises(FileNotFoundError, match=re.escape(str(path / name))):
        open_checkpoint(path)
