"""`python -m benchmarks.calls`: what it saves and prints, at a tiny size."""

import json
import sys

import pytest

from benchmarks import calls, int8_outliers
from gptloop.checkpoint import seeded


@pytest.fixture
def saved(measured):
    return measured()


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """The command with more options: what it saved and printed."""
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 97, "n_positions": 640}
    monkeypatch.setitem(seeded.SIZES, "gpt2", size)
    monkeypatch.setattr(calls, "RAGGED_PROMPTS", 6)
    path = tmp_path / "calls.json"

    def measured_(*options):
        monkeypatch.setattr(sys, "argv", ["calls", "--output", str(path), "--rounds", "2", *options])
        calls.main()
        return json.loads(path.read_text()), capsys.readouterr().out

    return measured_


def test_every_round_of_every_way_is_saved(saved):
    run, _ = saved
    assert run["gptloop_kind"] == "calls"
    assert {"cpu", "cpu_features", "threads", "versions"} <= run["machine"].keys()
    assert len(run["commit"]["id"]) == 40
    streamed = ["generate", *(f"block {block}" for block in calls.BLOCKS)]
    of_first_block = ["one token", "all tokens", "block 8"]
    assert [row["way"] for row in run["rows"]] == [*streamed * 3, *of_first_block, "in input order", "sorted"]
    assert all(len(row["rounds_s"]) == 2 and min(row["rounds_s"]) > 0 for row in run["rows"])


def test_streams_alone_leave_the_prompts_of_unequal_lengths_out(measured):
    ways = {row["way"] for row in measured("--streams")[0]["rows"]}
    assert ways == {"generate", "one token", "all tokens", *(f"block {block}" for block in calls.BLOCKS)}


def test_ways_are_compared_with_the_first_of_their_case():
    rows = [
        {"case": "a", "way": "generate", "rounds_s": [1.0, 2.0, 4.0]},
        {"case": "a", "way": "block 1", "rounds_s": [2.0, 3.0, 4.0]},
        {"case": calls.FIRST_BLOCK, "way": "one token", "rounds_s": [1.0, 1.0, 2.0]},
        {"case": calls.FIRST_BLOCK, "way": "all tokens", "rounds_s": [36.0, 36.0, 37.0]},
        {"case": calls.FIRST_BLOCK, "way": "block 8", "rounds_s": [8.0, 4.0, 9.0]},
    ]
    found = [" ".join(line.split()) for line in calls.table(rows)]
    assert found == [
        "a generate 2.000 s 1.000 [1.00-1.00]",
        "a block 1 3.000 s 1.500 [1.25-1.75]",
        "first block of 8, one row one token 1.000 s 1.000 [1.00-1.00]",
        "first block of 8, one row all tokens 36.000 s 36.000 [27.25-36.00]",
        "first block of 8, one row block 8 8.000 s 4.500 [4.25-6.25]",
        "first block of 8, one row over TTFT and seven tokens 1.000 [0.75-1.00]",
    ]


@pytest.mark.parametrize("command", [calls, int8_outliers])
def test_a_folder_that_does_not_exist_is_said_before_anything_is_measured(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setattr(sys, "argv", ["command", "--output", str(tmp_path / "no" / "file.json")])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 2
    assert f"no such folder: {tmp_path / 'no'}\n" in capsys.readouterr().err
