"""`gptloop generate`: text in, text out, the same text as Hugging Face's."""

import gc
import weakref

import numpy as np
import pytest
import torch
from command_line import json_of, text_of

from gptloop import OnnxLoop, export
from gptloop.runtime.batches import left_padded
from gptloop.runtime.completer import Completer

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = [
    "Four score and seven years",
    "We are",
    "It is altogether fitting and proper that we should do",
    "nation, or",
]
LAST = "It is altogether fitting and proper that"


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
        assert row["ended"] == ("eos" if 0 in tokens else "length")
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
    assert candidate["ended"] == "eos"
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
        assert candidate["ended"] == "eos"
        assert all(token >= 40 for token in candidate["ids"])


# Python


def test_a_model_that_is_let_go_leaves_the_memory_at_once(trained):
    """Without the garbage collector, which would come when it likes."""
    loop = OnnxLoop(trained.path)
    completer = Completer(loop)
    assert len(list(completer.complete([[1, 2]], seed=1, max_new_tokens=2, stop=["th"], eos_token_id=[0]))) == 1
    gone = weakref.ref(loop)
    gc.disable()
    try:
        del loop, completer
        assert gone() is None
    finally:
        gc.enable()


def test_stop_texts_are_kept_for_the_next_call_with_the_same(trained):
    completer = Completer(trained.onnx)
    kept = completer.stop_texts(["th", "."])
    assert completer.stop_texts([]) is None
    assert completer.stop_texts(("th", ".")) is kept
    assert completer.stop_texts(["th"]) is not kept


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
