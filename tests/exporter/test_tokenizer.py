"""The tokenizer beside the model: it is Hugging Face's, and no moment of an export leaves another model's."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import onnx
import pytest
from transformers import AutoTokenizer

from gptloop import export
from gptloop.checkpoint.tokenizer import read_tokenizer
from gptloop.exporter.orphans import remove_orphans
from gptloop.runtime.tokenizer import open_tokenizer

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TEXTS = [
    "Four score and seven years ago",
    " a space before, two  within, one after ",
    "lines\n\n\tand tabs\r\n",
    "naïve façade, Ελληνικά, 日本語, עברית",
    "👩‍👩‍👧 \U0001f680 \x00 \x7f \u200b",
    "the end<|endoftext|>and more",
    "1234567890 !?.,;:'\"-- don't we'll I'M",
    "",
]


@pytest.fixture
def directory(trained, tmp_path) -> Path:
    """A copy of the trained checkpoint that a test may change."""
    return Path(shutil.copytree(trained.directory, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def bare(trained, tmp_path_factory) -> Path:
    """The trained checkpoint without its tokenizer."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(trained.directory / name, folder)
    return folder


def change_tokenizer(directory: Path) -> None:
    """Write the end of text differently."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = directory / name
        file.write_text(file.read_text().replace("<|endoftext|>", "<|fin|>"))


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def saved_tokenizer(path: Path) -> Path:
    """The file that the model names."""
    return path.with_name(metadata(path)["gptloop_tokenizer"])


def assert_same_tokenizer(found, expected) -> None:
    for text in TEXTS:
        ids = expected(text)["input_ids"]
        assert found.encode(text).ids == ids
        assert found.decode(ids, skip_special_tokens=False) == expected.decode(ids)
    for token in range(len(expected)):  # most are a part of a character only
        assert found.decode([token], skip_special_tokens=False) == expected.decode([token])


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


# One export over another


def test_a_tokenizer_that_no_model_names_any_more_is_removed(trained, bare, tmp_path):
    path = export(trained.directory, tmp_path / "model.onnx")
    first = saved_tokenizer(path)
    copy = Path(shutil.copy(path, tmp_path / "copy.onnx"))
    others = [
        tmp_path / name for name in ("tokenizer.json", "model.tokenizer.json", f"other-{'0' * 16}.tokenizer.json")
    ]
    for other in others:
        other.write_text("kept")
    export(bare, path)
    assert saved_tokenizer(copy) == first, "which the copy still names"
    assert first.exists()
    copy.unlink()
    export(bare, path)
    assert not first.exists()
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("nth", [0, 1, 2], ids=["tokenizer", "data", ".onnx"])
def test_a_rename_that_fails_leaves_the_old_model_and_nothing_else(trained, bare, tmp_path, monkeypatch, nth):
    export(bare, tmp_path / "model.onnx")
    before, replace, calls = sorted(tmp_path.iterdir()), os.replace, []

    def fail_at_nth(*args):
        calls.append(args)
        if len(calls) > nth:
            raise PermissionError(13, "Permission denied")
        replace(*args)

    monkeypatch.setattr(os, "replace", fail_at_nth)
    with pytest.raises(PermissionError):
        export(trained.directory, tmp_path / "model.onnx")
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == before


# An export that is killed

KILLED_EXPORTS = """
# Exports over copies of a folder, each killed one step later than the one before: when it is about to rename or remove
# the next file of the folder.
import os, shutil, signal, sys
from pathlib import Path
from gptloop import graph
from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.export import export
from gptloop.exporter.tensors import stored_tensors
from gptloop.checkpoint.tokenizer import read_tokenizer

def kill_at(folder, steps):
    def look(event, args):
        nonlocal steps
        if event in ("os.rename", "os.remove") and str(args[0]).startswith(str(folder)) and os.path.exists(args[0]):
            steps -= 1
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(look)

new, start = open_checkpoint(sys.argv[1]), Path(sys.argv[2])
# What writes nothing and takes time is done once, for every child to inherit.
read_tokenizer(new.directory)
built = graph.build(new.config, stored_tensors(new, "fp32"), "fp32")
graph.build = lambda *_, **__: built
for steps in range(1, 100):
    folder = start.with_name(f"killed-{steps:02}")
    shutil.copytree(start, folder)
    child = os.fork()
    if not child:
        kill_at(folder, steps)
        export(new, folder / "model.onnx")
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
"""


def test_a_killed_export_leaves_the_old_model_or_the_new_one_with_its_own_tokenizer(tiny_model, trained, tmp_path):
    for name, seed in (("old", 1), ("new", 2)):
        shutil.copytree(trained.directory, tmp_path / name)
        tiny_model(n_layer=1, vocab_size=384, weights_seed=seed).save_pretrained(tmp_path / name)
    change_tokenizer(tmp_path / "old")
    start = tmp_path / "start"
    start.mkdir()
    export(tmp_path / "old", start / "model.onnx")
    subprocess.run([sys.executable, "-c", KILLED_EXPORTS, tmp_path / "new", start], check=True, timeout=300)

    contents = {name: read_tokenizer(tmp_path / name) for name in ("old", "new")}
    weights = {name: weights_file(export(tmp_path / name, tmp_path / f"{name}.onnx"))[-21:] for name in contents}
    assert len(set(contents.values())) == len(set(weights.values())) == 2
    found, files = [], []
    for folder in sorted(tmp_path.glob("killed-*")):
        path = folder / "model.onnx"
        (owner,) = (name for name, file in weights.items() if weights_file(path).endswith(file))
        assert saved_tokenizer(path).read_bytes() == contents[owner]
        found.append(owner)
        files.append(len(list(folder.glob("model-*.tokenizer.json"))))
        remove_orphans(path)
        assert len(list(folder.iterdir())) == 3, "the next export removes what the kill left"
    assert set(found) == {"old", "new"}
    assert found == sorted(found, reverse=True), "once the new model is there, it stays"
    assert 2 in files, "both tokenizers were there when the kill came between them"


def weights_file(path: Path) -> str:
    """Name of the data file, which tells one model from another."""
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                return entry.value
    raise AssertionError("no external data")
