"""`gptloop generate`: text in, text out, the same text as Hugging Face's."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from gptloop import OnnxLoop, export
from gptloop.cli import main
from gptloop.runtime import completer
from gptloop.runtime.completer import Completer, left_padded

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = [
    "Four score and seven years",
    "We are",
    "It is altogether fitting and proper that we should do",
    "nation, or",
]
LAST = "It is altogether fitting and proper that"


@pytest.fixture
def run(capsys, monkeypatch):
    """Runs `gptloop generate`: its output, its standard error and its exit code."""

    def run_(*arguments: object, stdin: str = "") -> tuple[str, str, int]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()  # what transformers printed before
        code = main(["generate", *map(str, arguments)])
        return (*capsys.readouterr(), code)

    return run_


def text_of(run_result: tuple[str, str, int]) -> str:
    out, err, code = run_result
    assert (err, code) == ("", 0)
    return out


def json_of(run_result: tuple[str, str, int]) -> list[dict]:
    return [json.loads(line) for line in text_of(run_result).splitlines()]


def error_of(run_result: tuple[str, str, int]) -> str:
    """The one line that an error prints, and nothing beside it."""
    out, err, code = run_result
    assert (out, code) == ("", 2)
    assert err.startswith("gptloop: error: ")
    assert err.count("\n") == 1
    return err


def hugging_face(trained, prompt: str, **arguments) -> str:
    """What Hugging Face generates, decoded, without prompt and end of text."""
    inputs = trained.tokenizer(prompt, return_tensors="pt")
    tokens = trained.model.generate(**inputs, do_sample=False, pad_token_id=0, **arguments)
    return trained.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :]).removesuffix(trained.end)


# Text


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_text_is_hugging_faces(trained, run, prompt):
    expected = hugging_face(trained, prompt, max_new_tokens=30)
    assert len(expected) > 5
    assert text_of(run(trained.path, prompt, "--temperature", 0, "--max-new-tokens", 30)) == expected + "\n"


def test_prompts_of_different_lengths_give_what_each_gives_alone(trained, run):
    found = json_of(run(trained.path, *PROMPTS, "--temperature", 0, "--max-new-tokens", 30, "--json"))
    expected = [hugging_face(trained, prompt, max_new_tokens=30) for prompt in PROMPTS]
    assert [completion["prompt"] for completion in found] == PROMPTS
    assert [completion["candidates"][0]["text"] for completion in found] == expected


def test_the_prompt_and_its_continuation_are_the_text(trained, run):
    """Of a byte-level tokenizer both parts simply stand beside each other."""
    out = text_of(run(trained.path, PROMPTS[0], "--temperature", 0, "--max-new-tokens", 50))
    assert trained.text.startswith(PROMPTS[0] + out.removesuffix("\n"))


def test_what_is_no_whole_character_is_decoded_as_hugging_face_does(tiny_model, trained, run, tmp_path):
    """Random weights give bytes that are no text."""
    tiny_model(n_layer=1, vocab_size=len(trained.tokenizer)).save_pretrained(tmp_path)
    trained.tokenizer.save_pretrained(tmp_path)
    path = export(tmp_path, tmp_path / "model.onnx")
    (found,) = json_of(run(path, "naïve 🚀", "-n", 8, "--seed", 0, "--json"))
    for candidate in found["candidates"]:
        assert candidate["text"] == trained.tokenizer.decode(candidate["ids"])
    assert any("\ufffd" in candidate["text"] for candidate in found["candidates"])


def test_settings_mean_what_they_mean_in_python(trained, run):
    prompts = trained.tokenizer(PROMPTS)["input_ids"]
    ids, mask = left_padded(prompts)
    call = {
        "max_new_tokens": 12,
        "min_new_tokens": 3,
        "num_return_sequences": 2,
        "temperature": 2.5,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.01,
        "repetition_penalty": 1.2,
        "seed": 9,
    }
    expected = trained.onnx.generate(ids, attention_mask=mask, eos_token_id=0, return_logprobs=True, **call)
    assert len({tuple(row) for row in expected.tokens.tolist()}) == 8
    options = [f"--{name.replace('_', '-')}={value}" for name, value in call.items()]
    found = json_of(run(trained.path, *PROMPTS, *options, "--json"))
    rows = [candidate for completion in found for candidate in completion["candidates"]]
    for row, tokens, logprobs, raw_logprobs in zip(rows, *expected[:3], strict=True):
        wanted = [token for token in tokens.tolist() if token]
        assert (row["ids"], row["text"]) == (wanted, trained.tokenizer.decode(wanted))
        assert row["ended"] == (0 in tokens)
        assert row["logprob"] == pytest.approx(logprobs.sum(), abs=1e-4)
        assert row["raw_logprob"] == pytest.approx(raw_logprobs.sum(), abs=1e-4)
    assert [completion["seed"] for completion in found] == [9, 10, 11, 12]
    assert [completion["prompt_ids"] for completion in found] == prompts


def test_a_single_text_stands_alone_and_several_have_headings(trained, run):
    one = text_of(run(trained.path, PROMPTS[0], "--seed", 3))
    assert not one.startswith("---")
    out = text_of(run(trained.path, *PROMPTS[:2], "-n", 2, "--seed", 3))
    headings = [line for line in out.splitlines() if line.startswith("---")]
    assert headings == [f"--- prompt {prompt}, candidate {candidate}" for prompt in (1, 2) for candidate in (1, 2)]
    assert out.startswith(f"--- prompt 1, candidate 1\n{one}--- prompt 1, candidate 2\n")


def test_standard_input_is_one_prompt_a_line(trained, run):
    stdin = "".join(f"{prompt}\n" for prompt in PROMPTS[1:])
    for lines in (stdin, stdin.removesuffix("\n")):
        assert run(trained.path, PROMPTS[0], "-", "--seed", 1, stdin=lines) == run(trained.path, *PROMPTS, "--seed", 1)


def test_no_lines_are_no_prompts(trained, run):
    assert run(trained.path, "-", "--seed", 1) == ("", "", 0)


def test_prompts_may_stand_anywhere_among_the_options(trained, run):
    expected = text_of(run(trained.path, *PROMPTS[:3], "-n", 2, "--seed", 1))
    first, second, third = PROMPTS[:3]
    assert text_of(run(trained.path, "-n", 2, first, "--seed", 1, second, third)) == expected
    assert text_of(run("--seed", 1, trained.path, first, "-n", 2, "--", second, third)) == expected


@pytest.mark.parametrize("arguments", [["--", "-do"], ["-n", 1, "--", "-do"], ["a", "-n", 1, "--", "-do"]], ids=str)
def test_a_prompt_may_look_like_an_option(trained, run, arguments):
    assert json_of(run(trained.path, "--seed=1", "--json", *arguments))[-1]["prompt"] == "-do"


def test_an_empty_prompt_starts_from_the_start_of_text(trained, run):
    """As in Hugging Face's pipeline; the blank line of a file included."""
    found = json_of(run(trained.path, "", "-", "--temperature", 0, "--json", stdin="\n"))
    assert [completion["prompt_ids"] for completion in found] == [[0], [0]]
    text = found[0]["candidates"][0]["text"]
    assert len(text) > 20
    assert trained.text.startswith(text)


# The end of text


def test_text_ends_where_the_model_ends_it(trained, run):
    (found,) = json_of(run(trained.path, LAST, "--temperature", 0, "--max-new-tokens", 40, "--json"))
    (candidate,) = found["candidates"]
    assert candidate["text"] == " we should do this."
    assert candidate["ended"]
    assert 0 not in candidate["ids"]


def test_text_goes_on_after_the_end_if_asked_to(trained, run):
    options = ["--temperature", 0, "--max-new-tokens", 40]
    out = text_of(run(trained.path, LAST, "--no-eos", *options))
    assert out.startswith(f" we should do this.{trained.end}Four score and")
    expected = hugging_face(trained, LAST, max_new_tokens=40, eos_token_id=None)
    assert out == expected + "\n"


def test_no_end_before_min_new_tokens(trained, run):
    options = ["--temperature", 0, "--max-new-tokens", 40, "--json"]
    (found,) = json_of(run(trained.path, LAST, "--min-new-tokens", 20, *options))
    assert len(found["candidates"][0]["ids"]) >= 20


def test_the_default_end_of_text_of_a_small_vocabulary_is_none(tiny_model, run, tmp_path):
    """50256, which GPT2Config sets unless told otherwise, is no token of this model."""
    path = export(tiny_model(n_layer=1, bos_token_id=50256, eos_token_id=50256), tmp_path / "model.onnx")
    assert len(text_of(run(path, "--ids", "1,2", "--seed", 1)).split(",")) == 20
    assert Completer(OnnxLoop(path)).eos_token_ids == []


def test_a_model_may_have_several_ends_of_text(tiny_model, run, tmp_path):
    path = export(tiny_model(n_layer=1, eos_token_id=list(range(40))), tmp_path / "model.onnx")
    (found,) = json_of(run(path, "--ids", "1,2", "--seed", 1, "-n", 5, "--json"))
    for candidate in found["candidates"]:
        assert candidate["ended"]
        assert all(token >= 40 for token in candidate["ids"])


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
    monkeypatch.setattr(completer, "ROWS", 7)
    assert text_of(run(trained.path, *options, *settings)) == expected
    assert calls == [(2, 2), (2, 3), (1, 2)]


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


# Python


def test_prompts_are_padded_on_the_left():
    ids, mask = left_padded([[5], [6, 7, 8], [9, 10]])
    np.testing.assert_array_equal(mask, [[0, 0, 1], [1, 1, 1], [0, 1, 1]])
    np.testing.assert_array_equal(ids * mask, [[0, 0, 5], [6, 7, 8], [0, 9, 10]])
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)


def test_a_padded_batch_is_hugging_faces(trained):
    """Which pads with a tokenizer of its own, on the left, too."""
    batch = trained.tokenizer(PROMPTS, padding=True, padding_side="left", return_tensors="np")
    ids, mask = left_padded(Completer(trained.onnx).encode(PROMPTS))
    np.testing.assert_array_equal(mask, batch["attention_mask"])
    np.testing.assert_array_equal(ids[mask == 1], batch["input_ids"][mask == 1])
    tokens = trained.model.generate(
        torch.tensor(ids), attention_mask=torch.tensor(mask), do_sample=False, max_new_tokens=20, pad_token_id=0
    )
    found = trained.onnx.generate(ids, attention_mask=mask, temperature=0, max_new_tokens=20, eos_token_id=0)
    np.testing.assert_array_equal(found, tokens[:, ids.shape[1] :])
