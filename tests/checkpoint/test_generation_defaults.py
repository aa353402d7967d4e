"""What ends a text is what transformers' generate stops at; defaults of other arguments are said to be left out."""

import json
import shutil
import warnings
from fnmatch import fnmatch

import pytest
import torch
from checkpoints import PUBLISHED_CONFIG
from transformers import GenerationConfig, GPT2LMHeadModel

from gptloop import OnnxLoop, export
from gptloop.checkpoint import open_checkpoint
from gptloop.cli import main
from gptloop.runtime.completer import Completer

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPT = [5, 96, 0]
IDS = [7, [9, 1, 96], None, -1, [2, -1, 50256]]


def write(path, generation):
    if generation is not None:
        (path / "generation_config.json").write_text(json.dumps(generation))
    return path


def hugging_faces_ids(path):
    """The ids in the vocabulary that transformers' generate would stop at."""
    model = GPT2LMHeadModel.from_pretrained(path)
    config, _ = model._prepare_generation_config(None)
    model._prepare_special_tokens(config, True, device=torch.device("cpu"))
    found = config._eos_token_tensor
    return [] if found is None else [token for token in found.tolist() if 0 <= token < 97]


@pytest.mark.parametrize("in_config", [95, [3, 4], -1, None, 50256, ...], ids=str)
@pytest.mark.parametrize("generation", [None, *({"eos_token_id": ids} for ids in IDS), {}], ids=str)
def test_a_folders_end_of_text_is_hugging_faces(directory, in_config, generation):
    config = {name: value for name, value in PUBLISHED_CONFIG.items() if name != "eos_token_id"}
    path = write(directory(config=config if in_config is ... else config | {"eos_token_id": in_config}), generation)
    assert list(open_checkpoint(path).generation.eos_token_ids) == hugging_faces_ids(path)


def most_likely(path):
    """The tokens of a greedy generation that nothing ends."""
    return OnnxLoop(path, device="cpu").generate([PROMPT], max_new_tokens=12, temperature=0)[0].tolist()


@pytest.mark.parametrize("way", ["folder", "module", "hub"])
def test_generation_ends_at_each_of_several_ids(directory, tmp_path, monkeypatch, capsys, way):
    """In the file's metadata, so that the command line stops there, too."""
    path = directory()
    tokens = most_likely(export(path, tmp_path / "model.onnx"))
    end = next(index for index, token in enumerate(tokens) if index > 1 and token not in tokens[:index])
    write(path, {"eos_token_id": [96, tokens[end]], "bos_token_id": 1})
    model = {"folder": path, "module": GPT2LMHeadModel.from_pretrained(path), "hub": "someone/gpt2"}[way]

    def snapshot_download(hub_id, allow_patterns):
        assert hub_id == "someone/gpt2"
        folder = tmp_path / "hub"
        shutil.copytree(
            path,
            folder,
            ignore=lambda _, names: [
                name for name in names if not any(fnmatch(name, pattern) for pattern in allow_patterns)
            ],
        )
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    file = export(model, tmp_path / "several.onnx")
    completer = Completer(OnnxLoop(file, device="cpu"))
    assert (completer.eos_token_ids, completer.bos_token_ids) == ([96, tokens[end]], [1])
    ids = ",".join(map(str, PROMPT))
    assert main(["generate", str(file), "--ids", ids, "--max-new-tokens", "12", "--temperature", "0", "--json"]) == 0
    (candidate,) = json.loads(capsys.readouterr().out)["candidates"]
    assert (candidate["ids"], candidate["ended"]) == (tokens[:end], "eos")


@pytest.mark.parametrize("ids", [-1, None, [-1]], ids=str)
def test_no_end_of_text_is_none(directory, tmp_path, capsys, ids):
    file = export(write(directory(eos_token_id=ids), None), tmp_path / "model.onnx")
    assert Completer(OnnxLoop(file, device="cpu")).eos_token_ids == []
    assert main(["generate", str(file), "--ids", "1,2", "--max-new-tokens", "5", "--seed", "1"]) == 0
    assert len(capsys.readouterr().out.split(",")) == 5


@pytest.mark.parametrize("ids", ["x", [1, "x"], 2.5, True, {"a": 1}, "9" * 100_000], ids=lambda ids: str(ids)[:9])
def test_an_end_of_text_that_is_no_id_is_refused(directory, ids):
    path = write(directory(), {"eos_token_id": ids})
    with pytest.raises(ValueError, match=r"generation_config.json: eos_token_id must be a token id or a list") as error:
        open_checkpoint(path)
    assert len(str(error.value)) < 500


def test_a_broken_generation_config_is_refused(directory):
    path = directory()
    (path / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config.json is no JSON"):
        open_checkpoint(path)


@pytest.mark.parametrize("way", ["folder", "module", "config.json"])
def test_other_defaults_are_said_to_be_left_out_once(directory, tmp_path, way):
    said = {"temperature": 0.5, "top_k": 3, "do_sample": True}
    path = directory(**said) if way == "config.json" else write(directory(), {**said, "eos_token_id": 95})
    model = GPT2LMHeadModel.from_pretrained(path) if way == "module" else path
    with pytest.warns(UserWarning, match="not exported") as warned:
        export(model, tmp_path / "model.onnx")
    (warning,) = warned
    assert warning.filename == __file__
    assert "its defaults do_sample=True, temperature=0.5, top_k=3 are not exported" in str(warning.message)
    with warnings.catch_warnings(action="error"):
        open_checkpoint(model)  # which only reads it


def test_a_file_without_other_defaults_is_no_cause_for_a_warning(tiny, tmp_path):
    """As transformers writes it beside any model."""
    tiny.model.save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "generation_config.json").read_text())) & {"use_cache", "transformers_version"}
    assert open_checkpoint(tmp_path).generation.others == ()
    GenerationConfig(eos_token_id=3, pad_token_id=3).save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path).generation.others == ()
