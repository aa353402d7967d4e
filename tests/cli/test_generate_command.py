"""`gptloop generate`: its options, seeds and refusals, and that it runs where torch is not installed."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import error_of, json_of, text_of

from gptloop import OnnxLoop, export, names
from gptloop.runtime import batches
from gptloop.runtime.completer import Completer

PROMPTS = ["Four score and seven years", "We are", "nation, or"]
LAST = "It is altogether fitting and proper that"


# Prompts


def test_standard_input_is_one_prompt_a_line(trained, run):
    stdin = "".join(f"{prompt}\n" for prompt in PROMPTS[1:])
    for lines in (stdin, stdin.removesuffix("\n")):
        assert run(trained.path, PROMPTS[0], "-", "--seed", 1, stdin=lines) == run(trained.path, *PROMPTS, "--seed", 1)


@pytest.mark.parametrize("stdin", ["", b"\xef\xbb\xbf"], ids=["empty", "a byte order mark"])
def test_no_prompts_at_all_are_an_error(trained, run, stdin):
    """As they are among the arguments: whoever fills the pipe has failed."""
    assert error_of(run(trained.path, "-", stdin=stdin)) == "gptloop: error: no prompts: standard input is empty\n"


def test_prompts_may_stand_anywhere_among_the_options(trained, run):
    expected = text_of(run(trained.path, *PROMPTS[:3], "-n", 2, "--seed", 1))
    first, second, third = PROMPTS[:3]
    assert text_of(run(trained.path, "-n", 2, first, "--seed", 1, second, third)) == expected
    assert text_of(run("--seed", 1, trained.path, first, "-n", 2, "--", second, third)) == expected


@pytest.mark.parametrize("arguments", [["--", "-do"], ["-n", 1, "--", "-do"], ["a", "-n", 1, "--", "-do"]], ids=str)
def test_a_prompt_may_look_like_an_option(trained, run, arguments):
    assert json_of(run(trained.path, "--seed=1", "--json", *arguments))[-1]["prompt"] == "-do"


def test_a_prompt_that_is_too_long_is_named_and_may_be_cut(trained, run):
    prompts = ["We are", "We are " * 40, "nation, or"]
    error = error_of(run(trained.path, *prompts, "--seed", 1))
    length = len(trained.tokenizer.encode(prompts[1]))
    assert f"prompt 2: prompt_len {length} + max_new_tokens 20" in error
    assert "(--truncate left cuts it)" in error
    found = json_of(run(trained.path, *prompts, "--seed", 1, "--truncate", "left", "--json"))
    assert found[1]["prompt_ids"] == trained.tokenizer.encode(prompts[1])[-44:]
    plain = json_of(run(trained.path, *prompts[::2], "--seed", 1, "--json"))
    assert [found[0]["prompt_ids"], found[2]["prompt_ids"]] == [completion["prompt_ids"] for completion in plain]


def test_what_no_cut_would_mend_names_no_cut(trained, run):
    """Too long, and its last token is none of the model's."""
    error = error_of(run(trained.path, "--ids", "1," * 60 + "384", "--seed", 1))
    assert error == "gptloop: error: input_ids must be within 0..383 (vocab_size 384), got 384\n"


def test_what_no_prompt_is_to_blame_for_names_none(trained, run):
    assert "error: top_k must be within 0..384" in error_of(run(trained.path, "a", "b", "--top-k", 385))
    assert "error: prompt_len" in error_of(run(trained.path, "a", "b", "--max-new-tokens", 64, "--truncate", "left"))


def test_a_small_vocabulary_has_a_default_top_k(open_tiny, run):
    path = open_tiny(n_layer=1, vocab_size=7).path
    assert len(text_of(run(path, "--ids", "1", "--seed", 1)).split(",")) == 20
    assert text_of(run(path, "--ids", "1", "--temperature", 0))
    assert "top_k must be within 0..7" in error_of(run(path, "--ids", "1", "--top-k", 50))


@pytest.mark.parametrize("none", [-1, None, [-1, 5], [], 97], ids=str)
def test_an_end_of_text_outside_the_vocabulary_is_none(tiny, none):
    loop = SimpleNamespace(metadata={names.META_CONFIG: json.dumps({"vocab_size": 97, "eos_token_id": none})})
    assert Completer(loop).eos_token_ids == ([5] if none == [-1, 5] else [])


# Token ids


def test_ids_in_are_ids_out(tiny, run):
    prompts, call = [[1, 2, 3], [4, 5, 6]], {"max_new_tokens": 5, "num_return_sequences": 2, "seed": 8}
    expected = tiny.onnx.generate(prompts, **call).tolist()
    options = ["--ids", "1,2,3", "--ids", "4, 5, 6", "-n", 2, "--max-new-tokens", 5, "--seed", 8]
    out = text_of(run(tiny.path, *options))
    assert [[int(token) for token in line.split(",")] for line in out.splitlines()] == expected
    found = json_of(run(tiny.path, *options, "--json"))
    assert [completion["prompt_ids"] for completion in found] == prompts
    assert [row["ids"] for completion in found for row in completion["candidates"]] == expected
    assert not any("text" in row or "prompt" in completion for completion in found for row in completion["candidates"])


def test_ids_need_no_tokenizer_file(trained, run, tmp_path):
    path = export(trained.directory, tmp_path / "model.onnx")
    (tokenizer,) = tmp_path.glob("*.tokenizer.json")
    tokenizer.unlink()
    ids = ",".join(map(str, trained.ids[:8]))
    expected = ",".join(map(str, trained.ids[8:28]))
    assert text_of(run(path, "--ids", ids, "--temperature", 0)) == f"{expected}\n"
    assert f"no such tokenizer file: {tokenizer}" in error_of(run(path, "Four score"))


# Seeds


def test_a_fresh_seed_is_told_and_gives_the_same_text_again(trained, run):
    options = [trained.path, *PROMPTS, "-n", 3, "--temperature", 3]
    out, err, code = run(*options)
    assert code == 0
    assert err.startswith("gptloop: seed ")
    seed = int(err.removeprefix("gptloop: seed "))
    assert text_of(run(*options, "--seed", seed)) == out
    assert run(*options)[1] != err


def test_greedy_text_has_no_seed_to_tell(trained, run):
    assert text_of(run(trained.path, PROMPTS[0], "--temperature", 0))


def test_many_prompts_run_some_at_a_time_and_give_what_each_gives_alone(trained, run, monkeypatch):
    options = ["--ids", "1,2", "--ids", "3", "--ids", "4,5,6", "--ids", "7", "--ids", "8,9"]
    settings = ["-n", 3, "--seed", 5, "--temperature", 2]
    expected = text_of(run(trained.path, *options, *settings))
    calls = []
    generate = OnnxLoop.generate
    monkeypatch.setattr(OnnxLoop, "generate", lambda *a, **k: calls.append(np.shape(a[1])) or generate(*a, **k))
    monkeypatch.setattr(batches, "ROWS", 7)
    assert text_of(run(trained.path, *options, *settings)) == expected
    assert calls == [(2, 2), (2, 1), (1, 3)]  # the batch of the first prompt first


# Errors


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--temperature", -1, "x"], "temperature must be 0 (greedy) or a finite number"),
        (["--top-k", 385, "x"], "top_k must be within 0..384"),
        (["--top-p", 0, "x"], "top_p must be above 0"),
        (["--seed", -1, "x"], "seed must be at least 0"),
        (["-n", 0, "x"], "num_return_sequences must be at least 1"),
        (["--max-new-tokens", 0, "x"], "max_new_tokens must be at least 1"),
        (["--threads", 0, "x"], "threads must be at least 1"),
        (["--ids", 384], "input_ids must be within 0..383"),
        (["x", "--ids", 1], "either texts (- for those on standard input) or token ids"),
        ([], "either texts (- for those on standard input) or token ids"),
        (["word " * 100], "n_positions 64"),
        ([*["x"] * 100, "word " * 100], "n_positions 64"),
    ],
    ids=lambda value: " ".join(map(str, value))[:30] if isinstance(value, list) else None,
)
def test_an_error_is_one_line_before_any_text(trained, run, arguments, named):
    assert named in error_of(run(trained.path, *arguments))


def test_text_without_a_tokenizer_is_an_error_that_names_the_way_out(tiny, run):
    error = error_of(run(tiny.path, "Four score"))
    assert error == f"gptloop: error: {tiny.path} has no tokenizer and takes token ids instead of text: --ids 1,2,3\n"


def test_an_empty_prompt_of_a_model_without_a_start_of_text_is_refused(tiny_model, trained, run, tmp_path):
    tiny_model(n_layer=1, vocab_size=len(trained.tokenizer)).save_pretrained(tmp_path)
    trained.tokenizer.save_pretrained(tmp_path)
    path = export(tmp_path, tmp_path / "model.onnx")
    assert "prompt 2 is empty, and the model has no bos_token_id" in error_of(run(path, "a", ""))


@pytest.mark.parametrize(
    "arguments", [["x", "--foo"], ["--ids", "1,x"], ["--ids", ""], ["-n", "1.5", "x"], ["x", "-y"]], ids=str
)
def test_what_does_not_parse_prints_the_usage(trained, run, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run(trained.path, *arguments)
    assert stop.value.code == 2
    assert "usage: gptloop" in capsys.readouterr().err


# As a program


def test_generating_text_needs_neither_torch_nor_transformers(trained):
    blocked = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['torch', 'transformers', 'onnxscript', 'onnx_ir', 'pandas']);"
        "runpy.run_module('gptloop', run_name='__main__')"
    )
    command = [sys.executable, "-c", blocked, "generate", trained.path, "-", "--temperature", "0"]
    done = subprocess.run(command, input=LAST, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, " we should do this.\n", "")
