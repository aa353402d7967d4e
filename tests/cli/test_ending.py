"""How a command ends: by a signal, by an error that nobody expected, by values far beyond any bound."""

import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
from command_line import error_of

from gptloop import ending, export
from gptloop.checkpoint import seeded
from gptloop.cli import main
from gptloop.exporter import inspect

LONG = "9" * 100_000


@pytest.mark.signals
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_an_export_that_a_signal_ends_leaves_nothing(tmp_path, capsys, monkeypatch, number, code):
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 31, "n_positions": 16}
    monkeypatch.setitem(seeded.SIZES, "gpt2", size)
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), number))  # between a file's content and its name
    before = signal.getsignal(number)
    assert main(["export", "gpt2", "--random-weights", "-o", str(tmp_path / "model.onnx")]) == code
    assert capsys.readouterr() == ("", "gptloop: interrupted\n")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) == before


def test_ctrl_c_ends_a_generation_that_would_take_minutes(tiny_model, tmp_path):
    path = export(tiny_model(n_layer=1, n_positions=60_000), tmp_path / "model.onnx")
    command = [sys.executable, "-m", "gptloop", "generate", path, "--ids", "1", "-n", "8", "--max-new-tokens", "59000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr.readline().startswith(b"gptloop: seed ")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out, err) == (130, b"", b"gptloop: interrupted\n")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("Non-zero\nstatus code"), "unexpected RuntimeError: Non-zero status code (test_ending.py:"),
        (MemoryError(), "unexpected MemoryError: (test_ending.py:"),
        (KeyError("offset"), "unexpected KeyError: 'offset' (test_ending.py:"),
        (ValueError(), "unexpected ValueError: (test_ending.py:"),
        (OSError(28, "No space left on device", "model.onnx"), "No space left on device: 'model.onnx'"),
        (ValueError("x" * 100_000), "characters ..."),
        (ValueError("\x1b[2J"), r"\x1b[2J"),
        (type("PanicException", (BaseException,), {})("of Rust"), "PanicException: of Rust"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_is_raised_is_one_line_and_exit_code_2(capsys, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(inspect, "inspect", fail)
    printed = (main(["inspect", "model.onnx"]), *capsys.readouterr())
    line = error_of((printed[1], printed[2], printed[0]))
    assert said in line
    assert len(line) < 1_200
    monkeypatch.setenv(ending.SHOW_TRACEBACK, "1")
    assert main(["inspect", "model.onnx"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_warning_is_one_printable_line(capsys):
    before, said = warnings.formatwarning, []
    message = "\x1b[2J\nmodel: " + LONG

    def command() -> int:
        said.append(warnings.formatwarning(UserWarning(message), UserWarning, "export.py", 3))
        return 0

    code = ending.run("gptloop", command)
    assert (code, warnings.formatwarning) == (0, before)
    assert said[0].startswith(r"gptloop: warning: \x1b[2J model: 999")
    assert said[0].count("\n") == 1
    assert len(said[0]) < 1_200


def test_an_interrupt_that_a_library_turned_into_an_error_is_one(capsys, monkeypatch):
    def fail(*_, **__):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as interrupt:
            raise ImportError("cannot load") from interrupt

    monkeypatch.setattr(inspect, "inspect", fail)
    assert main(["inspect", "model.onnx"]) == 130
    assert capsys.readouterr().err == "gptloop: interrupted\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--threads", 10**6], "threads must be at most "),
        (["--threads", 2**31], f"got {2**31}"),
        (["-n", 10**9], f"num_return_sequences {10**9} with max_new_tokens 20 takes at least 360.0 GB to hold"),
        (["-n", 2**31 - 1], "this machine has"),
        (["-n", 10**11], f"num_return_sequences must be at most {2**31 - 1}, got {10**11}"),
        (["-n", 2**64], f"num_return_sequences must be at most {2**31 - 1}"),
        (["--seed", "9" * 4_000], "seed must be at most 2^63 - 1, got 999"),
        (["--top-k", "9" * 4_000], "(4000 characters)"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(map(str, value))[:30],
)
def test_a_value_beyond_any_machine_names_its_bound(tiny, run, arguments, named):
    error = error_of(run(tiny.path, "--ids", 1, *arguments))
    assert named in error
    assert len(error) < 500


@pytest.mark.parametrize(
    "arguments",
    [["--threads", LONG], ["--ids", LONG + "x"], ["--device", LONG], ["a", f"--{LONG}"]],
    ids=lambda a: a[0],
)
def test_a_refusal_of_the_options_repeats_no_long_value(run, capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run("model.onnx", *arguments)
    assert stop.value.code == 2
    assert len(capsys.readouterr().err) < 5_000


@pytest.mark.parametrize(
    "command", [["export", "gpt2", "--random-weights", "-o", "m.onnx"], ["evaluate", "m.onnx", "--ids", "ids.txt"]]
)
def test_an_interpreter_without_docstrings_is_refused(tmp_path, command):
    arguments = [sys.executable, "-OO", "-m", "gptloop", *command]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "gptloop: error: transformers cannot be imported without docstrings: run Python without -OO (-O is fine)\n"
    )
