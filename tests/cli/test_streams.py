"""Standard streams as callers leave them: bytes that are no text, closed, full, in another encoding, a terminal."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import error_of, json_of, text_of

from gptloop.cli import main
from gptloop.runtime.candidate import Candidate
from gptloop.runtime.completer import Completer

BARE = {"HOME": "/proc/none", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
GREEDY = ["--temperature", "0", "--max-new-tokens", "2"]


def shell(command: str, path: object, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run `gptloop COMMAND` as a shell does; FILE is the model."""
    words = shlex.join([sys.executable, "-m", "gptloop"]) + " " + command.replace("FILE", shlex.quote(str(path)))
    env = {**os.environ, **environment}
    return subprocess.run(["sh", "-c", words, "sh", *arguments], capture_output=True, env=env, check=False, timeout=120)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["Unix", "Windows", "old Macs"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["no mark", "a byte order mark"])
def test_lines_of_any_system_are_prompts(trained, run, start, end):
    """In UTF-8 whatever the locale: the fixture's standard input is in ASCII."""
    lines = ["We are", "naïve \x0b\x85\u2028 🚀", "the end"]
    stdin = start + b"".join(line.encode() + end for line in lines)
    assert [
        completion["prompt"] for completion in json_of(run(trained.path, "-", "--json", *GREEDY, stdin=stdin))
    ] == lines


@pytest.mark.parametrize(
    ("stdin", "named"),
    [
        (b"We are\nna\xefve\n", "standard input, line 2 is not UTF-8: byte 0xef at 3"),
        ("We".encode("utf-16"), "standard input, line 1 is not UTF-8: byte 0xff at 1"),
        (b"a\n\r\n\xed\xa0\x80", "standard input, line 3 is not UTF-8: byte 0xed at 1"),
    ],
    ids=["Latin-1", "UTF-16", "a surrogate"],
)
def test_a_line_that_is_not_utf_8_is_named(trained, run, stdin, named):
    assert named in error_of(run(trained.path, "-", stdin=stdin))


def test_an_argument_that_is_not_utf_8_is_named(trained, run):
    argument = os.fsdecode(b"na\xefve")
    assert "prompt 2 is not UTF-8: byte 0xef at 3" in error_of(run(trained.path, "We are", argument))


def test_a_prompt_of_half_characters_is_named(trained):
    with pytest.raises(ValueError, match=r"prompt 2 is no text: U\+D83D at 2"):
        Completer(trained.onnx).encode(["a", "b\ud83d"])


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("generate FILE - <&-", 2, "standard input is closed"),
        ("generate FILE --ids 1 >&-", 2, "standard output is closed"),
        ("inspect FILE >/dev/full", 2, "No space left on device"),
        ("inspect nowhere 2>&-", 2, None),
        ("inspect nowhere 2>/dev/full", 2, None),
    ],
)
def test_a_stream_that_cannot_be_used_is_one_line(tiny, command, code, said):
    done = shell(command, tiny.path)
    assert (done.returncode, done.stdout) == (code, b"")
    if said:
        assert done.stderr.startswith(b"gptloop: error: ")
        assert said in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1


def test_a_bare_environment_is_enough(trained):
    """No home, no locale but C, and no assertions."""
    done = shell('generate FILE "$1" - --json <<.\né\n.\n', trained.path, "é", **BARE, PYTHONOPTIMIZE="1")
    assert done.returncode == 0
    assert done.stdout.count(b'"prompt": "\\u00e9"') == 2
    assert done.stderr.startswith(b"gptloop: seed ")
    assert done.stderr.count(b"\n") == 1, "nothing of a telemetry that finds no folder"


def test_a_checkpoint_is_exported_in_a_bare_environment(trained, tmp_path):
    done = shell('export "$1" -o "$2"', None, str(trained.directory), str(tmp_path / "model.onnx"), **BARE)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path}/model.onnx\n".encode(), b"")


def test_a_name_that_the_locale_lacks_works_or_the_line_says_what_allows_it(tiny, tmp_path):
    path = Path(shutil.copytree(tiny.path.parent, tmp_path / "é")) / tiny.path.name
    done = shell("generate FILE --ids 1 --seed 0", path, **BARE)
    if done.returncode:
        assert done.stderr.startswith(b"gptloop: error: ")
        assert done.stderr.count(b"\n") == 1
        assert b"PYTHONUTF8=1" in done.stderr


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", b"na\xefve \\u4e2d"), ("ascii", b"na\\xefve \\u4e2d")])
def test_what_an_encoding_lacks_is_escaped(tiny, run, monkeypatch, tmp_path, encoding, shown):
    monkeypatch.setattr(Completer, "complete", complete_with("naïve 中"))
    with open(tmp_path / "out", "w", encoding=encoding) as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["generate", str(tiny.path), "--ids", "1", "--seed", "0"]) == 0
    assert (tmp_path / "out").read_bytes() == shown + b"\n"


@pytest.mark.parametrize(
    ("options", "terminal", "shown"),
    [
        ([], True, "a\\x1b[31m\\u202e\n\tb\n"),
        (["--raw"], True, "a\x1b[31m\u202e\n\tb\n"),
        ([], False, "a\x1b[31m\u202e\n\tb\n"),
    ],
    ids=["a terminal", "a terminal, raw", "a file"],
)
def test_generated_text_is_escaped_for_a_terminal(tiny, run, monkeypatch, options, terminal, shown):
    monkeypatch.setattr(Completer, "complete", complete_with("a\x1b[31m\u202e\n\tb"))
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: terminal)
    assert text_of(run(tiny.path, "--ids", 1, "--seed", 0, *options)) == shown


def test_json_of_a_model_that_computes_nan_is_json(tiny, run, monkeypatch):
    monkeypatch.setattr(Completer, "complete", complete_with(None, float("nan")))
    (found,) = json_of(run(tiny.path, "--ids", 1, "--seed", 0, "--json"))
    assert found["candidates"] == [{"ids": [1], "ended": "length", "logprob": None, "raw_logprob": -1.0}]


def complete_with(text: str | None, logprob: float = -1.0):
    """What a model might have said, in the place of `Completer.complete`."""
    return lambda *_, **__: iter([[Candidate([1], text, "length", logprob, -1.0)]])


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0")], ids=["nobody", "the user"])
def test_telemetry_is_off_unless_the_user_has_decided(monkeypatch, capsys, before, after):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", before or "")
    if before is None:
        monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert main(["inspect", "nowhere.onnx"]) == 2
    assert os.environ["ORT_DISABLE_TELEMETRY"] == after
