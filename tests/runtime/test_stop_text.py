"""Stop texts: candidates are cut exactly, wherever the tokens part, and rows end early where the graph can know."""

from __future__ import annotations

import numpy as np
import pytest
from command_line import error_of, json_of, text_of
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders

from gptloop.runtime import stop_text
from gptloop.runtime.completer import Completer
from gptloop.runtime.stop_text import StopTexts

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPT = "Four score and seven years"
LAST = "It is altogether fitting and proper that"
GREEDY = ["--temperature", 0, "--max-new-tokens", 40]


@pytest.fixture(scope="module")
def tokenizer(trained):
    return trained.tokenizer.backend_tokenizer


def by_reading(tokenizer: Tokenizer, ids: list[int], stops: list[str]) -> tuple[str, int] | None:
    """The text before the first stop text and the number of tokens that show it, one token and character at a time."""
    for number in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:number], skip_special_tokens=False)
        for end in range(1, len(text) + 1):
            lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
            if lengths:
                return text[: end - max(lengths)], number
    return None


@given(data=st.data())
def test_a_candidate_is_cut_as_a_reader_would(trained, tokenizer, data):
    """On any tokens, half characters and the end of text among them; stop texts are pieces of what they say."""
    ids = data.draw(st.lists(st.sampled_from(range(len(trained.tokenizer))), min_size=1, max_size=25))
    text = tokenizer.decode(ids, skip_special_tokens=False)
    places = st.integers(0, max(len(text) - 1, 0))
    pieces = [text[at : at + data.draw(st.integers(1, 5))] for at in data.draw(st.lists(places, max_size=3))]
    # What stands for half a character may become a whole one with the next token: no text to stop at.
    stops = [piece for piece in pieces if piece and "\ufffd" not in piece] or ["no such text"]
    found = StopTexts(stops, tokenizer, len(trained.tokenizer)).cut(ids)
    expected = by_reading(tokenizer, ids, stops)
    assert (found and (found.text, found.drawn)) == expected
    if found:
        kept = tokenizer.decode(found.ids, skip_special_tokens=False)
        assert found.ids == ids[: len(found.ids)]
        assert found.text.startswith(kept)
        longer = tokenizer.decode(ids[: len(found.ids) + 1], skip_special_tokens=False)
        assert not found.text.startswith(longer) or len(found.ids) + 1 == found.drawn


@given(data=st.data())
def test_the_graph_ends_a_row_at_no_sequence_without_the_text(trained, tokenizer, data):
    at, length = data.draw(st.integers(0, 300)), data.draw(st.integers(1, 8))
    stop = trained.text[at : at + length]
    sequences = StopTexts([stop], tokenizer, len(trained.tokenizer)).sequences
    assert 0 < len(sequences) == len(set(sequences)) <= stop_text.SEQUENCES_MAX
    for ids in sequences:
        assert stop in tokenizer.decode([*ids], skip_special_tokens=False)
    if len(sequences) < stop_text.SEQUENCES_MAX:  # then it knows them all: any text ends with its first stop text
        ids = tokenizer.encode(trained.text[max(at - 9, 0) : at + length + 9]).ids
        _, drawn = by_reading(tokenizer, ids, [stop])
        assert any(ids[:drawn][-len(sequence) :] == [*sequence] for sequence in sequences)


@pytest.mark.parametrize("stop", ["Liberty", "liber", " and", "ty", "our", ",", "a new nation"])
def test_greedy_text_ends_where_hugging_faces_does(trained, run, stop):
    """Which keeps the token that completes the stop text."""
    inputs = trained.tokenizer(PROMPT, return_tensors="pt")
    tokens = trained.model.generate(
        **inputs, do_sample=False, max_new_tokens=40, pad_token_id=0, stop_strings=[stop], tokenizer=trained.tokenizer
    )[0, inputs["input_ids"].shape[1] :]
    (found,) = json_of(run(trained.path, PROMPT, *GREEDY, "--stop", stop, "--json"))
    (candidate,) = found["candidates"]
    text, is_there, _ = trained.tokenizer.decode(tokens).removesuffix(trained.end).partition(stop)
    assert candidate["text"] == text
    assert candidate["ended"] == ("stop" if is_there else "length")
    assert text_of(run(trained.path, PROMPT, *GREEDY, "--stop", stop)) == text + "\n"


def test_the_log_probability_is_that_of_the_tokens_up_to_the_stop_text(trained, run, monkeypatch):
    """Whether or not the graph ended the row there; and so is all else of the candidate."""
    options = [
        trained.path,
        PROMPT,
        "-n",
        8,
        "--seed",
        1,
        "--temperature",
        1.5,
        "--stop",
        "a",
        "--stop",
        ", ",
        "--json",
    ]
    (early,) = json_of(run(*options))
    monkeypatch.setattr(stop_text, "SEQUENCES_MAX", 0)
    (late,) = json_of(run(*options))
    for one, other in zip(early["candidates"], late["candidates"], strict=True):
        assert {**one, "logprob": 0, "raw_logprob": 0} == {**other, "logprob": 0, "raw_logprob": 0}
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)
        assert one["raw_logprob"] == pytest.approx(other["raw_logprob"], abs=1e-4)
    assert {c["ended"] for c in early["candidates"]} >= {"stop"}


@pytest.mark.parametrize("stop", ["we", " we shou", "."])
def test_the_graph_generates_no_more_than_it_has_to(trained, stop):
    made = []
    completer = Completer(trained.onnx)
    generate = trained.onnx.generate
    completer.loop = type("Noting", (), {"__getattr__": lambda _, name: getattr(trained.onnx, name)})()
    completer.loop.generate = lambda *args, **call: made.append(generate(*args, **call)) or made[-1]
    prompt = completer.encode([LAST])
    ((candidate,),) = completer.complete(prompt, seed=0, temperature=0, max_new_tokens=40, stop=[stop])
    assert candidate.ended == "stop"
    assert made[0].tokens.shape[1] < 9
    sequences = StopTexts([stop], completer.tokenizer, 384).sequences
    tokens = made[0].tokens[0].tolist()
    assert any(tokens[-len(ids) :] == [*ids] for ids in sequences)


def test_a_tokenizer_whose_texts_depend_on_their_neighbours_ends_no_row_early(tokenizer):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.decoder = decoders.Metaspace()
    stops = StopTexts(["a"], other, 384)
    assert stops.sequences == []
    assert StopTexts(["a"], tokenizer, 384).sequences != []


def test_what_ended_a_candidate_is_told(trained, run):
    for options, ended in (([], "eos"), (["--stop", "do"], "stop"), (["--max-new-tokens", 2], "length")):
        (found,) = json_of(run(trained.path, LAST, *GREEDY, *options, "--json"))
        assert found["candidates"][0]["ended"] == ended
    (found,) = json_of(run(trained.path, LAST, *GREEDY, "--stop", trained.end, "--no-eos", "--json"))
    assert found["candidates"][0]["ended"] == "stop", "the end of text is text, where it ends nothing"


def test_token_ids_are_cut_by_the_text_that_they_would_be(trained, run):
    ids = ",".join(map(str, trained.tokenizer(LAST)["input_ids"]))
    (found,) = json_of(run(trained.path, "--ids", ids, *GREEDY, "--stop", "this", "--json"))
    (candidate,) = found["candidates"]
    assert (candidate["ended"], "text" in candidate) == ("stop", False)
    text = trained.tokenizer.decode(candidate["ids"])
    assert " we should do ".startswith(text)
    assert len(text) > 9


def test_no_stop_text_is_found_without_a_tokenizer(tiny, run):
    assert "has no tokenizer, without which no stop text can be found" in error_of(
        run(tiny.path, "--ids", 1, "--stop", "a")
    )


def test_an_empty_stop_text_is_refused(trained, run):
    error = error_of(run(trained.path, PROMPT, "--stop", ""))
    assert error == "gptloop: error: a stop text must have at least 1 character, got ''\n"


def test_ids_and_biases_are_options_too(trained, run):
    prompt = trained.tokenizer(PROMPT)["input_ids"]
    biases = {(50,): 30, (50, 51): 9}  # 50 whatever the model says
    call = {
        "sequence_bias": biases,
        "no_repeat_ngram_size": 1,
        "suppress_tokens": [30, 31],
        "bad_words_ids": [[40, 41], [42]],
    }
    expected = trained.onnx.generate(
        [prompt],
        max_new_tokens=9,
        seed=3,
        temperature=1.5,
        eos_token_id=0,
        **call,
    )
    options = ["--no-repeat-ngram-size", 1, "--suppress-tokens", "30,31", "--bad-words-ids", "40,41"]
    options += ["--bad-words-ids", "42", "--sequence-bias", "50=30", "--sequence-bias", "50,51=9"]
    (found,) = json_of(
        run(trained.path, PROMPT, *options, "--max-new-tokens", 9, "--seed", 3, "--temperature", 1.5, "--json")
    )
    ids = found["candidates"][0]["ids"]
    np.testing.assert_array_equal(ids, expected[0, : len(ids)])
    assert 50 in ids


@pytest.mark.parametrize("bias", ["1,2", "=3", "1,x=3", "1=x"])
def test_a_bias_that_does_not_parse_is_refused(trained, run, bias, capsys):
    with pytest.raises(SystemExit):
        run(trained.path, PROMPT, "--sequence-bias", bias)
    assert "argument --sequence-bias: must be token ids" in capsys.readouterr().err
