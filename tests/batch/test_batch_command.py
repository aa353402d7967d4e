"""`gptloop batch`: its files, its results and what it refuses."""

import json
import re
import sys
from pathlib import Path

import pytest

from gptloop.batch import journal, prompts, results
from gptloop.runtime.candidate import Candidate
from gptloop.runtime.completer import Completer

SETTINGS = ("--max-new-tokens", "5", "--temperature", "1.5", "-n", "3", "--window", "8", "--seed", "7", "--no-eos")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "We are", "key": 1}\n{"ids": [5, 6, 7]}\n{"prompt": ""}\n')
    return path


def records(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# Results


def test_each_result_is_what_the_prompt_gives_alone(trained, undisturbed):
    """With the seed of its number; log-probabilities are rounded otherwise in another batch."""
    lines = undisturbed.source.read_bytes().splitlines()
    completer = Completer(trained.onnx)
    call = {"max_new_tokens": 5, "temperature": 1.5, "num_return_sequences": 3}
    found = [json.loads(line) for line in undisturbed.results.splitlines()]
    assert len(found) == len(lines) == 30
    for number, record in enumerate(found):
        if "error" in record:
            continue
        prompt = json.loads(lines[number])
        ids = prompt["ids"] if "ids" in prompt else completer.encode([prompt["prompt"]])[0]
        assert record.get("prompt") == prompt.get("prompt")
        assert (record["prompt_ids"], record["seed"]) == (ids, 7 + number)
        (alone,) = completer.complete([ids], seed=7 + number, **call)
        for candidate, other in zip(record["candidates"], alone, strict=True):
            assert (candidate["ids"], candidate["text"]) == (other.ids, other.text)
            assert candidate["logprob"] == pytest.approx(other.logprob, abs=1e-4)
            assert candidate["raw_logprob"] == pytest.approx(other.raw_logprob, abs=1e-4)


def test_a_broken_line_is_an_error_in_its_place(undisturbed):
    errors = {
        number: json.loads(line)["error"]
        for number, line in enumerate(undisturbed.results.splitlines())
        if b'"error"' in line
    }
    assert list(errors) == [3, 12, 20, 21, 29]
    assert errors[3].startswith("no JSON: ")
    assert "at least 1 prompt of at least 1 token" in errors[12]
    assert errors[20].startswith('must be {"prompt": TEXT} or {"ids": [1, 2, 3]}, got {')
    assert errors[29] == "ids must be token ids, got [1.5]"


def test_a_stop_text_ends_a_candidate_as_in_generate(trained, undisturbed, batch, tmp_path):
    output = tmp_path / "results.jsonl"
    call = {"max_new_tokens": 20, "temperature": 0.8, "num_return_sequences": 3, "stop": ["th", "."]}
    options = (
        "--max-new-tokens",
        20,
        "--temperature",
        0.8,
        "-n",
        3,
        "--seed",
        7,
        "--no-eos",
        "--stop",
        "th",
        "--stop",
        ".",
    )
    assert batch(undisturbed.model, undisturbed.source, "-o", output, *options)[0] == 0
    completer, ended = Completer(trained.onnx), set()
    for number, record in enumerate(records(output)):
        if "error" not in record:
            (alone,) = completer.complete([record["prompt_ids"]], seed=7 + number, **call)
            found = [(candidate["ids"], candidate["text"], candidate["ended"]) for candidate in record["candidates"]]
            assert found == [(candidate.ids, candidate.text, candidate.ended) for candidate in alone]
            ended |= {candidate.ended for candidate in alone}
    assert ended == {"stop", "length"}


def test_a_stop_text_that_is_none_is_refused(undisturbed, batch, tmp_path):
    output = tmp_path / "results.jsonl"
    code, err = batch(undisturbed.model, undisturbed.source, "-o", output, *SETTINGS, "--stop", "")
    assert (code, err) == (2, "gptloop: error: a stop text must have at least 1 character, got ''\n")
    assert not output.exists()


@pytest.mark.parametrize("window", [5, 1000])
def test_the_tokens_do_not_depend_on_the_window(undisturbed, batch, tmp_path, window):
    output = tmp_path / "results.jsonl"
    assert batch(undisturbed.model, undisturbed.source, "-o", output, *SETTINGS, "--window", window)[0] == 0
    assert tokens(output.read_bytes()) == tokens(undisturbed.results)


def tokens(results: bytes) -> list[list[list[int]]]:
    return [[candidate["ids"] for candidate in json.loads(line).get("candidates", ())] for line in results.splitlines()]


def test_a_prompt_that_is_too_long_is_an_error_and_may_be_cut(trained, batch, tmp_path):
    source, output, cut = tmp_path / "prompts.jsonl", tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    source.write_text(json.dumps({"ids": trained.ids[:61]}) + "\n" + json.dumps({"prompt": "half \ud83d"}) + "\n")
    assert "2 of them with an error" in batch(trained.path, source, "-o", output, *SETTINGS)[1]
    long, half = records(output)
    assert long["error"].endswith("= 66 is above the model's n_positions 64")
    assert half["error"] == "prompt is no text: U+D83D at 6 is half a character"
    assert "1 of them with an error" in batch(trained.path, source, "-o", cut, *SETTINGS, "--truncate", "left")[1]
    assert records(cut)[0]["prompt_ids"] == trained.ids[2:61]


def test_a_line_that_fills_the_memory_is_an_error(trained, source, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(prompts, "LINE_BYTES_MAX", 100)
    source.write_text('{"ids": [1]}\n{"ids": [' + "1, " * 500 + '1]}\n{"ids": [2]}')
    output = tmp_path / "results.jsonl"
    assert batch(trained.path, source, "-o", output, *SETTINGS)[0] == 0
    assert [record.get("error") for record in records(output)] == [None, "longer than 100 bytes", None]


def test_the_example_of_the_document_ranks_the_candidates(undisturbed, tmp_path, monkeypatch):
    document = Path(__file__).parents[2] / "docs" / "batch.md"
    (example,) = re.findall(r"^```python\n(.*?)^```$", document.read_text(), flags=re.M | re.S)
    (tmp_path / "results.jsonl").write_bytes(undisturbed.results)
    monkeypatch.chdir(tmp_path)
    exec(example, {})
    for result, best in zip(records(Path("results.jsonl")), records(Path("best.jsonl")), strict=True):
        candidates = result.get("candidates", [])
        assert sorted(c["raw_logprob"] for c in candidates) == [c["raw_logprob"] for c in reversed(best["best"])]


# Parquet


@pytest.mark.parametrize("suffixes", [(".parquet", ".jsonl"), (".jsonl", ".parquet")])
def test_without_pyarrow_the_message_says_what_to_install(trained, source, batch, tmp_path, monkeypatch, suffixes):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    given, output = source.rename(tmp_path / f"in{suffixes[0]}"), tmp_path / f"out{suffixes[1]}"
    code, error = batch(trained.path, given, "-o", output, *SETTINGS)
    assert code == 2
    assert "Parquet needs pyarrow: pip install pyarrow\n" in error


def test_without_ray_the_message_says_what_to_install(trained, source, batch, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, error = batch(trained.path, source, "-o", tmp_path / "out.jsonl", *SETTINGS, "--ray")
    assert code == 2
    assert "a Ray cluster needs Ray: pip install ray\n" in error


def test_parquet_in_and_out_have_what_lines_have(trained, source, batch, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow as pa  # noqa: PLC0415

    lines = [json.loads(line) for line in source.read_text().splitlines()]
    rows = [{"prompt": line.get("prompt"), "ids": line.get("ids")} for line in lines]
    table = tmp_path / "prompts.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table)
    outputs = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.parquet")]
    for given, output in zip((source, table, table), outputs, strict=True):
        assert batch(trained.path, given, "-o", output, *SETTINGS)[0] == 0
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    found = [
        {name: value for name, value in row.items() if value is not None}
        for row in pq.read_table(outputs[2]).to_pylist()
    ]
    assert found == records(outputs[0])


def test_parquet_has_a_column_for_each_key_of_a_candidate(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    results.write([], tmp_path / "none.parquet")
    candidates = pq.read_schema(tmp_path / "none.parquet").field("candidates").type.value_type
    assert tuple(candidates.field(number).name for number in range(candidates.num_fields)) == Candidate._fields


def test_a_parquet_file_without_prompts_is_refused(trained, batch, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow as pa  # noqa: PLC0415

    source = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["a"]}), source)
    code, err = batch(trained.path, source, "-o", tmp_path / "out.jsonl")
    assert (code, err) == (2, f"gptloop: error: {source} has no column prompt or ids, only text\n")
    source.write_bytes(b"PAR1 not really")
    assert "is truncated or no Parquet file" in batch(trained.path, source, "-o", tmp_path / "out.jsonl")[1]


# Refusals: one line, no generated token and no file left behind


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temperature", "-1"], "temperature must be 0 (greedy) or"),
        (["--top-k", "999"], "top_k must be within 0..384"),
        (["--window", "0"], "window must be at least 1, got 0"),
        (["--workers", "2"], "workers 2 needs --ray"),
        (["--seed", str(2**63 - 2)], f"seed must be at most 2^63 - 3 for 3 prompts, got {2**63 - 2}"),
        (["--strict", "--max-new-tokens", "62"], "prompt 2: prompt_len 3 + max_new_tokens 62 = 65 is above"),
        (["-o", "nowhere/out.jsonl"], "no such folder: nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(trained, source, batch, tmp_path, options, words):
    code, err = batch(trained.path, source, "-o", tmp_path / "out.jsonl", *options)
    assert code == 2
    assert err.startswith("gptloop: error: ")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()
    assert "--strict" in options or [path.name for path in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_text_without_a_tokenizer_is_an_error_that_names_the_way_out(tiny, source, batch, tmp_path):
    code, err = batch(tiny.path, source, "-o", tmp_path / "out.jsonl")
    words = f'{tiny.path} has no tokenizer and takes token ids instead of text: "ids" instead of "prompt" in {source}'
    assert (code, err) == (2, f"gptloop: error: {words}\n")


def test_a_file_that_is_there_is_not_written_over(trained, source, batch, tmp_path):
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    assert batch(trained.path, source, "-o", output) == (
        2,
        f"gptloop: error: {output} exists already: remove it, or give another\n",
    )
    assert output.read_text() == "mine"


def test_two_processes_do_not_write_one_output(trained, source, batch, tmp_path):
    output = tmp_path / "out.jsonl"
    other = journal.Journal(output)
    try:
        assert "another process is writing" in batch(trained.path, source, "-o", output)[1]
    finally:
        other.close()
    assert batch(trained.path, source, "-o", output)[0] == 0
