"""Text while it is generated: the pieces are the whole text, and no half character is ever among them."""

import pytest
from command_line import json_of, text_of

from gptloop import OnnxLoop
from gptloop.runtime.completer import Completer
from gptloop.runtime.stop_text import REPLACEMENT, StopTexts
from gptloop.runtime.text_stream import RowText, stream_text

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPT = "Four score and seven years"


@pytest.fixture(scope="module")
def completer(trained):
    return Completer(OnnxLoop(trained.path))


def decode(trained):
    return trained.tokenizer.decode


@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_a_character_comes_whole(trained, size):
    text = "naïve 🚀 — ünï"
    ids = trained.tokenizer(text)["input_ids"]
    row = RowText(decode(trained))
    pieces = [row.push(ids[start : start + size]) for start in range(0, len(ids), size)]
    assert not any(REPLACEMENT in piece for piece in pieces)
    assert "".join(pieces) + row.finish() == text
    assert row.ended == "length"


def test_what_never_becomes_a_character_comes_at_the_end(trained):
    ids = trained.tokenizer("a🚀")["input_ids"][:-1]
    row = RowText(decode(trained))
    assert row.push(ids) == "a"
    assert row.finish() == decode(trained)(ids)[1:]


def test_the_beginning_of_a_stop_text_is_held_back(trained, completer):
    ids = completer.tokenizer.encode("one two three").ids
    row = RowText(decode(trained), stop=StopTexts(["two th"], completer.tokenizer, completer.loop.bounds.vocab_size))
    seen = ""
    for token in ids:
        seen += row.push([token])
        assert "one two th".startswith(seen) or seen == "one "
        assert "two" not in seen
    assert (seen, row.ended) == ("one ", "stop")


@pytest.mark.parametrize("block", [1, 3, 8])
@pytest.mark.parametrize("stop", [[], ["fathers"], ["our f", "zzz"]])
def test_the_pieces_are_what_complete_returns(completer, block, stop):
    (prompt,) = completer.encode([PROMPT])
    call = {"max_new_tokens": 30, "temperature": 0.8, "num_return_sequences": 3, "stop": stop}
    (expected,) = completer.complete([prompt], seed=3, eos_token_id=completer.eos_token_ids, **call)
    texts, ends = [""] * 3, [None] * 3
    for candidate, text, ended in stream_text(
        completer, prompt, seed=3, eos_token_ids=completer.eos_token_ids, block=block, **call
    ):
        assert ends[candidate] is None
        texts[candidate] += text
        ends[candidate] = ended
    assert texts == [candidate.text for candidate in expected]
    assert ends == [candidate.ended for candidate in expected]


def test_the_command_prints_the_same_text(trained, run):
    options = ("--temperature", 0.9, "--seed", 4, "--max-new-tokens", 20)
    whole = text_of(run(trained.path, PROMPT, *options))
    assert text_of(run(trained.path, PROMPT, "--stream", *options)) == whole
    pieces = json_of(run(trained.path, PROMPT, "--stream", "--json", *options))
    assert "".join(piece["text"] for piece in pieces) + "\n" == whole
    assert [piece["ended"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1]["ended"] in ("eos", "length")


def test_several_candidates_come_by_line_with_their_numbers(trained, run):
    options = ("--temperature", 0.9, "--seed", 4, "--max-new-tokens", 20, "-n", 2)
    lines = text_of(run(trained.path, PROMPT, "We are", "--stream", *options)).splitlines()
    found = {}
    for line in lines:
        number, _, text = line.partition(": ")
        found.setdefault(number, []).append(text)
    assert sorted(found) == ["1.1", "1.2", "2.1", "2.2"]
    whole = json_of(run(trained.path, PROMPT, "We are", "--json", *options))
    for prompt, completion in enumerate(whole, 1):
        for number, candidate in enumerate(completion["candidates"], 1):
            assert "\n".join(found[f"{prompt}.{number}"]) == candidate["text"].rstrip("\n")


@pytest.mark.parametrize("stream", [(), ("--stream",)])
def test_a_command_ends_when_its_time_is_up(trained, run, stream):
    # So much work that the timer's thread gets a turn before the first block ends, on a busy machine as well.
    work = ["-n", 64, "--top-k", 0, "--max-new-tokens", 50, "--seed", 1]
    out, err, code = run(trained.path, PROMPT, "--timeout", "0.000001", "--no-eos", *work, *stream)
    assert (out.strip(), code) == ("", 2)
    assert err == "gptloop: error: the call was ended after timeout_s 1e-06\n"
