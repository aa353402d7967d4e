"""`gptloop evaluate`: a text in, what a file's precision costs out."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from gptloop import export
from gptloop.checkpoint import seeded
from gptloop.cli import main
from gptloop.reference.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def int8_path(trained, tmp_path_factory):
    return export(trained.directory, tmp_path_factory.mktemp("evaluate") / "int8.onnx", precision="int8")


@pytest.fixture
def run(capfd, tmp_path, monkeypatch):
    """Runs the command in a folder of its own; exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()

    def run_(*arguments):
        code = main(["evaluate", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run_


def test_a_text_is_scored_with_the_tokenizer_beside_the_model(trained, int8_path, run, tmp_path):
    (tmp_path / "text").write_text(trained.text, encoding="utf-8")
    code, out, err = run(int8_path, "--text", "text", "--window", 32, "--json")
    assert (code, err) == (0, "")
    expected = evaluate(int8_path, trained.directory, np.array(trained.ids), window=32)
    assert json.loads(out) == {
        "tokens": len(trained.ids) - 1,
        "perplexity": pytest.approx(expected.perplexity),
        "source_perplexity": pytest.approx(expected.source_perplexity),
        "agreement": expected.agreement,
        "perplexity_change": pytest.approx(expected.perplexity_change),
    }
    assert expected.perplexity != expected.source_perplexity


def test_both_perplexities_the_change_and_the_agreement_are_printed(trained, int8_path, run, tmp_path):
    (tmp_path / "text").write_text(trained.text, encoding="utf-8")
    code, out, _ = run(int8_path, "--text", "text", "--source", trained.directory)
    assert code == 0
    lines = dict(line.split(maxsplit=1) for line in out.replace("source perplexity", "source").splitlines())
    found = evaluate(int8_path, trained.directory, np.array(trained.ids))
    assert lines == {
        "tokens": f"{found.tokens}",
        "perplexity": f"{found.perplexity:.4f}",
        "source": f"{found.source_perplexity:.4f}",
        "change": f"{found.perplexity_change * 100:+.2f}%",
        "agreement": f"{found.agreement * 100:.2f}%",
    }


@pytest.mark.parametrize("separator", [" ", ",", "\n", ", "])
def test_ids_need_no_tokenizer_and_a_random_source_is_made_again(run, tmp_path, monkeypatch, separator):
    """An fp32 file of seeded weights is exactly as good as its source, which nobody saved."""
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 31, "n_positions": 16}
    monkeypatch.setitem(seeded.SIZES, "gpt2", size)
    export(seeded.random_checkpoint("gpt2", seed=3), tmp_path / "model.onnx")
    (tmp_path / "ids").write_text(separator.join(map(str, range(20))))
    code, out, _ = run("model.onnx", "--ids", "ids", "--json")
    found = json.loads(out)
    assert (code, found["tokens"], found["agreement"]) == (0, 19, 1.0)
    assert found["perplexity"] == pytest.approx(found["source_perplexity"], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere.onnx", "--text", "text"], "no such model file: nowhere.onnx"),
        (["MODEL", "--text", "nowhere"], "nowhere"),
        (["MODEL", "--text", "latin-1"], "latin-1 is no text in UTF-8"),
        (["MODEL", "--text", "one"], "at least 2 tokens, got 1"),
        (["MODEL", "--text", "empty"], "at least 2 tokens, got 0"),
        (["MODEL", "--ids", "text"], "text must hold token ids, got 'Four'"),
        (["MODEL", "--ids", "beyond"], "token ids must be within 0..383, got 1..384"),
        (["MODEL", "--text", "text", "--window", "65"], "window must be within 2..64 (n_positions), got 65"),
        (["MODEL", "--text", "text", "--window", "-1"], "window must be within 2..64 (n_positions), got -1"),
        (["MODEL", "--text", "text", "--source", "./nowhere"], "no such model directory: ./nowhere"),
        (["MODEL", "--text", "text", "--source", "TINY"], "was not made from"),
        (["tiny.onnx", "--text", "text"], "tiny.onnx has no tokenizer and takes token ids instead of text: --ids FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line(trained, int8_path, tiny, run, tmp_path, arguments, named):
    for name, text in (("text", "Four score and seven"), ("one", "a"), ("empty", ""), ("beyond", "1 384")):
        (tmp_path / name).write_text(text)
    (tmp_path / "latin-1").write_bytes("é".encode("latin-1"))
    tiny.model.save_pretrained(tmp_path / "tiny")
    export(tmp_path / "tiny", tmp_path / "tiny.onnx")
    placed = {"MODEL": int8_path, "TINY": tmp_path / "tiny"}
    code, out, err = run(*(placed.get(argument, argument) for argument in arguments))
    assert (code, out) == (2, "")
    *_, line = err.splitlines()
    assert line.startswith("gptloop: error: ")
    assert named in line


def test_a_source_that_is_elsewhere_now_is_asked_for(trained, run, tmp_path):
    (tmp_path / "text").write_text(trained.text, encoding="utf-8")
    shutil.copytree(trained.directory, tmp_path / "here")
    export("./here", tmp_path / "model.onnx")
    (tmp_path / "here").rename(tmp_path / "there")
    code, _, err = run("model.onnx", "--text", "text")
    assert code == 2
    assert "model.onnx was made from './here', which cannot be opened: no such model directory: ./here" in err
    assert err.endswith("; --source MODEL names another place\n")
    assert run("model.onnx", "--text", "text", "--source", "./there")[0] == 0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n_inner": 30}, "n_inner is 128, the source's is 30"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is True, the source's is False"),
    ],
    ids=str,
)
def test_a_source_of_another_shape_is_refused(tiny, tiny_model, tmp_path, changed, said):
    path = export(tiny.model, tmp_path / "tiny.onnx")
    with pytest.raises(ValueError, match=f"was not made from .*: {said}"):
        evaluate(path, tiny_model(**changed), np.arange(20))


@pytest.mark.parametrize("options", [[], ["--by-layer"], ["--json"], ["--by-layer", "--json"]], ids=" ".join)
def test_a_missed_bound_is_told_in_every_form(tiny, tiny_model, run, tmp_path, options):
    """Of a file that was not made from these weights."""
    other = tiny_model()
    other.transformer.h[0].mlp.c_fc.weight.data *= 3
    other.save_pretrained(tmp_path / "other")
    export(tiny.model, tmp_path / "tiny.onnx", precision="int8")
    (tmp_path / "ids").write_text(" ".join(map(str, range(60))))
    code, out, err = run("tiny.onnx", "--ids", "ids", "--source", "other", *options)
    assert code == 0
    assert out
    *_, told = err.splitlines()
    assert told.startswith("gptloop: perplexity ")
    assert "allowed" in told
    assert ("--by-layer shows where" in told) == ("--by-layer" not in options)


@pytest.mark.parametrize("arguments", [[], ["--text", "a", "--ids", "b"]], ids=str)
def test_text_or_ids_is_asked_for(int8_path, run, capfd, arguments):
    with pytest.raises(SystemExit):
        run(int8_path, *arguments)
    assert "usage: gptloop evaluate" in capfd.readouterr().err
