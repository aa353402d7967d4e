"""The tokenizer beside the model is Hugging Face's."""

import json
import os
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
from exported_files import export
from tokenizers_of import assert_same_tokenizer, change_tokenizer, metadata, saved_tokenizer
from transformers import AutoTokenizer

from gptloop.checkpoint.tokenizer import read_tokenizer
from gptloop.runtime.tokenizer import open_tokenizer

pytestmark = pytest.mark.usefixtures("one_torch_thread")


# What is saved


def test_the_saved_tokenizer_is_hugging_faces(trained):
    assert_same_tokenizer(open_tokenizer(saved_tokenizer(trained.path)), trained.tokenizer)


def test_a_vocabulary_and_merges_are_a_tokenizer_too(trained, directory, tmp_path):
    """What GPT-2 checkpoints came with before there was tokenizer.json."""
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    found = open_tokenizer(saved_tokenizer(export(directory, tmp_path / "model.onnx")))
    assert_same_tokenizer(found, AutoTokenizer.from_pretrained(directory))
    assert_same_tokenizer(found, trained.tokenizer)


def test_truncation_and_padding_are_not_saved(directory):
    """They would cut long prompts and pad short ones without a word."""
    file = directory / "tokenizer.json"
    tokenizer = open_tokenizer(file)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=10)
    tokenizer.save(str(file))
    saved = json.loads(read_tokenizer(directory))
    assert (saved["truncation"], saved["padding"]) == (None, None)


def test_the_files_name_is_the_models_and_a_hash_of_its_content(trained, directory, tmp_path):
    first = saved_tokenizer(trained.path)
    assert re.fullmatch(r"trained-[0-9a-f]{16}\.tokenizer\.json", first.name)
    second = saved_tokenizer(export(directory, tmp_path / "trained.onnx"))
    assert (second.name, second.read_bytes()) == (first.name, first.read_bytes())
    change_tokenizer(directory)
    assert saved_tokenizer(export(directory, tmp_path / "trained.onnx")).name != first.name


@pytest.mark.parametrize("single_file", [False, True])
def test_a_model_without_a_tokenizer_is_exported_without_one(trained, bare, tmp_path, single_file):
    for model in (trained.model, bare):
        path = export(model, tmp_path / "model.onnx", single_file=single_file)
        assert "gptloop_tokenizer" not in metadata(path)
        assert not list(tmp_path.glob("*.json"))


def test_a_single_file_holds_the_weights_not_the_tokenizer(trained, tmp_path):
    path = export(trained.directory, tmp_path / "model.onnx", single_file=True)
    assert set(tmp_path.iterdir()) == {path, saved_tokenizer(path)}


def test_the_tokenizer_of_a_hub_model_is_downloaded_and_saved(trained, tmp_path, monkeypatch):
    def snapshot_download(hub_id: str, allow_patterns: list[str]) -> str:
        assert hub_id == "someone/trained"
        folder = tmp_path / "hub"
        folder.mkdir()
        for file in trained.directory.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, folder)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    path = export("someone/trained", tmp_path / "model.onnx")
    assert_same_tokenizer(open_tokenizer(saved_tokenizer(path)), trained.tokenizer)


def test_the_file_has_the_permissions_of_any_other_new_file(trained):
    folder = trained.path.parent
    assert len({file.stat().st_mode for file in folder.iterdir() if file.is_file()}) == 1


# What is refused


@pytest.mark.parametrize("content", ["", "{", '{"model": 1}'])
def test_a_broken_tokenizer_is_refused_before_anything_is_written(directory, tmp_path, content):
    (directory / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=f"the tokenizer in {re.escape(str(directory))} cannot be read"):
        export(directory, tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_a_file_that_is_gone_or_truncated_is_named(trained, tmp_path):
    file = Path(shutil.copy(saved_tokenizer(trained.path), tmp_path / "copy.tokenizer.json"))
    os.truncate(file, 100)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))} is truncated or no tokenizer"):
        open_tokenizer(file)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"no such tokenizer file: {re.escape(str(file))}"):
        open_tokenizer(file)
