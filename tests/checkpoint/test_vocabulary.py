"""A tokenizer fits its model, and no file makes a library take memory for tokens that are not there."""

import json
import re
import shutil
import tracemalloc
import warnings
from pathlib import Path

import pytest
from exported_files import export
from transformers import AutoTokenizer, GPT2LMHeadModel

from gptloop.checkpoint.tokenizer import read_tokenizer
from gptloop.runtime.tokenizer import open_tokenizer

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def folder(trained, tmp_path) -> Path:
    """A copy of the trained checkpoint, whose tokenizer has as many tokens as the model."""
    return Path(shutil.copytree(trained.directory, tmp_path / "checkpoint"))


def add(folder, *tokens, special):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def test_a_tokenizer_is_read_without_what_config_json_says_of_labels(trained, folder):
    """Transformers would make names for as many labels as `num_labels`, in tens of GB, and take `id2label` apart."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"id2label": 5, "label2id": "x", "dtype": 3}))
    assert read_tokenizer(folder) == read_tokenizer(trained.directory)


# Beyond the embedding


def test_a_tokenizer_with_ordinary_tokens_beyond_the_embedding_is_refused(trained, folder, tmp_path):
    size = add(folder, "newword", special=False)
    V = trained.model.config.vocab_size
    expected = f"is one of {size} tokens, among them id {V} ('newword'), but the model's vocab_size is {V}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        export(folder, tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_a_model_that_was_resized_takes_the_added_token(folder, tmp_path):
    size = add(folder, "newword", "<pad>", special=False)
    model = GPT2LMHeadModel.from_pretrained(folder)
    model.resize_token_embeddings(size)
    model.save_pretrained(folder)
    assert export(folder, tmp_path / "model.onnx").exists()


def test_a_special_token_beyond_the_embedding_is_a_warning(trained, folder, tmp_path):
    """A padding token that was added for training, say: ordinary prompts never have it, and the model is as it was."""
    size = add(folder, "[PAD]", special=True)
    V = trained.model.config.vocab_size
    expected = f"is one of {size} tokens, among them id {V} ('[PAD]'), but the model's vocab_size is {V}: prompts with"
    with pytest.warns(UserWarning, match=re.escape(expected)) as warned:
        export(folder, tmp_path / "model.onnx")
    assert [warning.filename for warning in warned] == [__file__]


def test_a_special_token_beyond_the_embedding_that_every_prompt_has_is_refused(folder, tmp_path):
    add(folder, "[BOS]", special=True)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    token = {"SpecialToken": {"id": "[BOS]", "type_id": 0}}
    text = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [token, text[0]],
        "pair": [token, *text],
        "special_tokens": {"[BOS]": {"id": "[BOS]", "ids": [384], "tokens": ["[BOS]"]}},
    }
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"among them id 384 .*, but the model's vocab_size is 384; resize"):
        export(folder, tmp_path / "model.onnx")


def test_a_tokenizer_smaller_than_the_embedding_is_exported(trained, folder, tiny_model, tmp_path):
    """Embeddings are padded to a round number of rows for speed."""
    tiny_model(vocab_size=512).save_pretrained(folder)
    with warnings.catch_warnings(action="error"):
        assert export(folder, tmp_path / "model.onnx").exists()


# Ids far beyond the vocabulary


FLAGS = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word", "special"), False)


def give_id(folder, where, number):
    """Give a token another id, wherever a tokenizer's files have ids; the name of the file."""
    name = "tokenizer.json" if where == "added" else where
    file = folder / name
    content = json.loads(file.read_text()) if file.exists() else {}
    if where == "added":
        content["added_tokens"].append({"id": number, "content": "xxx", **FLAGS})
    elif where == "tokenizer.json":
        content["model"]["vocab"]["xxx"] = number
    elif where == "tokenizer_config.json":
        content["added_tokens_decoder"] = {str(number): {"content": "xxx", **FLAGS}}
    else:
        content["xxx"] = number
    file.write_text(json.dumps(content))
    return name


PLACES = ["tokenizer.json", "added", "vocab.json", "added_tokens.json", "tokenizer_config.json"]


@pytest.mark.parametrize("number", [2**21, 2**32 - 1, 10**30])
@pytest.mark.parametrize("where", PLACES)
def test_an_id_far_beyond_the_vocabulary_is_refused_before_a_library_sees_it(folder, monkeypatch, where, number):
    if where == "vocab.json":
        (folder / "tokenizer.json").unlink()
    name = give_id(folder, where, number)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("opened by transformers"))
    tracemalloc.start()
    expected = rf"{re.escape(name)} has \d+ tokens and an id {number}; ids must be below \d+"
    with pytest.raises(ValueError, match=expected):
        read_tokenizer(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_vocabulary_with_holes_is_opened(folder):
    """As those are from which rare tokens were taken, at a cost that no one sees."""
    give_id(folder, "tokenizer.json", 50_256)
    found = json.loads(read_tokenizer(folder))["model"]["vocab"]
    assert len(found) > 300


# Files that transformers reads otherwise, or not at all


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model"])
def test_sentencepieces_file_alone_is_refused(folder, tmp_path, name):
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(b"\x0a\x0e")
    with pytest.raises(
        ValueError, match=rf"{re.escape(name)} is SentencePiece's, which is not read; save the tokenizer"
    ):
        export(folder, tmp_path / "model.onnx")


def test_files_of_another_kind_of_tokenizer_are_refused(folder, tmp_path):
    """Transformers opens them as GPT-2's, which finds no file of its own, and has one token."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "vocab.txt").write_text("[UNK]\nthe\nof\n")
    with pytest.raises(ValueError, match="no tokens but special ones; its files are of another kind"):
        export(folder, tmp_path / "model.onnx")


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json"])
def test_a_tokenizers_file_may_not_lie_elsewhere(folder, tmp_path, name):
    outside = tmp_path / name
    outside.write_text((folder / "tokenizer.json").read_text())
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    (folder / "vocab.txt").touch()
    with pytest.raises(ValueError, match=rf"{re.escape(name)} is a link out of its folder"):
        export(folder, tmp_path / "model.onnx")


def test_a_tokenizers_configuration_may_not_name_files_elsewhere(folder, tmp_path):
    shutil.copy(folder / "tokenizer.json", tmp_path / "tokenizer.1.0.0.json")
    content = json.loads((folder / "tokenizer_config.json").read_text())
    content["fast_tokenizer_files"] = ["../tokenizer.1.0.0.json"]
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"may only name files in itself, got '../tokenizer.1.0.0.json'"):
        export(folder, tmp_path / "model.onnx")


def test_code_that_comes_with_a_tokenizer_is_not_run(trained, folder, tmp_path):
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')\nclass Mine: pass\n")
    for name in ("tokenizer_config.json", "config.json"):
        content = json.loads((folder / name).read_text())
        content |= {"auto_map": {"AutoTokenizer": [None, "mine.Mine"], "AutoModelForCausalLM": "mine.Mine"}}
        (folder / name).write_text(json.dumps(content))
    export(folder, tmp_path / "model.onnx")
    assert not (tmp_path / "run").exists()
    assert open_tokenizer(next(tmp_path.glob("*.tokenizer.json"))).encode("a nation").ids


@pytest.mark.parametrize(
    "content", ['{"model": ' + "[" * 100_000, '{"x": "' + "y" * 100_000, "[]", '{"added_tokens": 3}']
)
def test_a_broken_tokenizer_is_one_short_message(folder, tmp_path, capsys, content):
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"the tokenizer in .* cannot be read: ") as error:
        export(folder, tmp_path / "model.onnx")
    assert len(str(error.value)) < 600
    assert capsys.readouterr() == ("", "")
