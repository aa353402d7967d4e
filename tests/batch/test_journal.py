"""The journal of a batch: one owner at a time, and nothing held by whoever was refused it."""

import fcntl
import json
import os

import pytest

from gptloop.batch.journal import SUFFIX, Journal

FACTS = {"gptloop batch": {"seed": 7}}
BATCH = {"window": [0, 0, 1, "a hash"], "results": [[0, {"error": "why"}]]}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def write(output):
    """Writes the journal: a line of bytes, or of JSON."""
    path = output.with_name(output.name + SUFFIX)

    def write_(*lines):
        path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
        return path

    return write_


def next_descriptor() -> int:
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_who_is_refused_leaves_no_descriptor_open(output):
    owner, free = Journal(output), next_descriptor()
    with pytest.raises(OSError, match="another process is writing"):
        Journal(output)
    assert next_descriptor() == free
    owner.close()


def test_what_is_no_journal_is_refused_for_that_however_often(output, write):
    path, free = write({"mine": 1}), next_descriptor()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{path} is no journal of gptloop batch"):
            Journal(output)
    assert next_descriptor() == free
    assert json.loads(path.read_bytes()) == {"mine": 1}


def test_who_waited_for_a_journal_that_is_removed_owns_the_next_one(output, monkeypatch):
    """Its owner removes it after the other has opened it, and before that one has it for itself."""
    first, flock = Journal(output), fcntl.flock

    def flock_late(file, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        first.close()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    second = Journal(output)
    assert second.path.exists()
    with pytest.raises(OSError, match="another process is writing"):
        Journal(output)
    second.close()
    assert not second.path.exists()


@pytest.mark.parametrize(
    "line",
    [
        {"results": []},
        {"window": [0, 0, 1, "a hash"]},
        {"window": [0, 0, 1], "results": []},
        {"window": 3, "results": []},
        {"window": [[0], 0, 1, "a hash"], "results": []},
        {"window": [0, 0, 1, "a hash"], "results": [[0]]},
        {"window": [0, 0, 1, "a hash"], "results": [[0, 1]]},
        [1],
        None,
    ],
    ids=str,
)
def test_a_line_that_is_no_batch_is_named(output, write, line):
    path = write(FACTS, BATCH, line)
    content = path.read_bytes()
    at = content.index(b"\n", content.index(b"\n") + 1) + 1
    with pytest.raises(ValueError) as damage:  # noqa: PT011  (the whole message follows)
        Journal(output)
    assert str(damage.value) == f"{path} is damaged at byte {at}: no batch: {line!r}"
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"\0\0", b"[" * 100_000, b"\xff"], ids=["zeros", "too deep", "no UTF-8"])
def test_a_line_that_is_no_json_is_named(output, write, line):
    with pytest.raises(ValueError, match=f"{write(FACTS, line)} is damaged at byte {len(json.dumps(FACTS)) + 1}: "):
        Journal(output)


@pytest.mark.parametrize("first", [[1], 5, {"gptloop batch": 5}], ids=str)
def test_a_first_line_of_something_else_is_no_journal(output, write, first):
    with pytest.raises(ValueError, match="is no journal of gptloop batch"):
        Journal(write(first).with_name(output.name))
