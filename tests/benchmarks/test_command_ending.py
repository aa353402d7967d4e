"""How a command ends: one line and 2 for what nobody expected, 130 and 143 for signals; 1 only by its own verdict."""

import argparse
import os
import runpy
import signal
import subprocess
import sys

import pytest

from benchmarks.command.ending import run, whole
from benchmarks.gate import change as gate_change
from benchmarks.gate import prove as gate_prove
from benchmarks.gpu import run as gpu_run


def ended(capsys, error: BaseException) -> tuple[int, str]:
    def command() -> int:
        raise error

    return run("command", command), capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("x must be 1,\n  got 2"), "x must be 1, got 2"),
        (FileNotFoundError(2, "No such file or directory", "a.toml"), "[Errno 2] No such file or directory: 'a.toml'"),
        (KeyError("brand"), "unexpected KeyError: 'brand' (test_command_ending.py:"),
        (OverflowError("1e300"), "unexpected OverflowError: 1e300 (test_command_ending.py:"),
        (AssertionError(), "unexpected AssertionError: (test_command_ending.py:"),
        (RuntimeError(), "unexpected RuntimeError: (test_command_ending.py:"),
        (MemoryError(), "unexpected MemoryError: (test_command_ending.py:"),
        (ValueError("\x1b[31mred"), "\\x1b[31mred"),
    ],
)
def test_what_a_command_raises_is_one_line_and_2(capsys, error, line):
    status, said = ended(capsys, error)
    assert status == 2
    assert said.startswith(f"command: error: {line}")
    assert said.count("\n") == 1


def test_a_long_value_is_not_repeated_in_full(capsys):
    _, said = ended(capsys, ValueError("x" * 100_000))
    assert len(said) < 1100


def test_a_long_value_of_an_option_is_not_repeated_in_full():
    with pytest.raises(argparse.ArgumentTypeError) as error:
        whole(1)("x" * 100_000)
    assert len(str(error.value)) < 120


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [(KeyboardInterrupt(), 130, "interrupted\n"), (SystemExit(2), None, "")],
)
def test_ctrl_c_is_130_and_the_parsers_own_end_passes(capsys, error, status, line):
    if status is None:
        with pytest.raises(SystemExit):
            ended(capsys, error)
        return
    assert ended(capsys, error) == (status, f"command: {line}")


@pytest.mark.signals
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_through_its_finally(capsys, number):
    done, before = [], signal.getsignal(number)

    def command() -> int:
        try:
            os.kill(os.getpid(), number)
            return 0
        finally:
            done.append("cleaned up")

    assert run("command", command) == 128 + number
    assert done == ["cleaned up"]
    assert capsys.readouterr().err == "command: interrupted\n"
    assert signal.getsignal(number) == before


@pytest.mark.signals
def test_a_signal_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("command", lambda: os.kill(os.getpid(), signal.SIGHUP) or 0) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


PRINTS = """
import sys
from benchmarks.command.ending import run, say_after
from gptloop.ending import print_result

def command():
    say_after(0)("progress")
    print_result("verdict \u2014 " + "x" * 10)
    return 1

sys.exit(run("command", command))
"""


def shell(redirection: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, PRINTS]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.mark.parametrize(
    ("redirection", "words"),
    [(">/dev/full", "cannot be written: No space left"), (">&-", "standard output cannot be written: it is closed")],
)
def test_a_result_that_cannot_be_printed_is_no_regression(redirection, words):
    done = shell(redirection)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["", "2>/dev/full", "2>&-", "| true; exit ${PIPESTATUS[0]}"])
def test_a_verdict_stands_whoever_reads_it_and_with_nowhere_to_say_progress(redirection):
    done = shell(redirection)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_terminal_that_lacks_a_letter_gets_it_escaped():
    done = shell("", PYTHONIOENCODING="ascii")
    assert done.stdout == f"verdict \\u2014 {'x' * 10}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2", "must be at least 3, got 2"),
        ("9" * 5000, "expected a whole number, got '9999"),
        ("1e3", "expected a whole number, got '1e3'"),
        ("100001", "must be at most 100000, got 100001"),
    ],
)
def test_a_whole_number_out_of_bounds_is_named_with_the_bound(text, words):
    with pytest.raises(Exception, match=words) as raised:
        whole(3)(text)
    assert len(str(raised.value)) < 100


@pytest.mark.parametrize("main", [gate_change.main, gate_prove.main, gpu_run.main])
def test_an_argument_of_100000_letters_is_refused_in_a_line(main, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["--" + "x" * 100_000])
    assert raised.value.code == 2
    assert len(capsys.readouterr().err) < 2000


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(gate_change, ["--base", "HEAD"]), (gate_prove, []), (gpu_run, ["--output", "x", "--rehearse"])],
)
def test_every_command_ends_with_2_for_what_it_did_not_expect(command, arguments, capsys, monkeypatch, tmp_path):
    def surprise(*_, **__):
        raise KeyError("brand_raw")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.machine.facts", surprise)
    monkeypatch.setattr(gpu_run, "run_all", surprise)
    assert run("command", lambda: command.main(arguments)) == 2
    assert "unexpected KeyError: 'brand_raw'" in capsys.readouterr().err


COMMANDS = {
    "benchmarks.change": "benchmarks.gate.change",
    "benchmarks.prove": "benchmarks.gate.prove",
    "benchmarks.bisect": "benchmarks.gate.bisect",
    "benchmarks.gpu": "benchmarks.gpu.run",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_starts_what_does_its_work(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    monkeypatch.delitem(sys.modules, command, raising=False)  # imported by another test, runpy warns of it
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m {command} ")


@pytest.mark.parametrize(("command", "module"), COMMANDS.items())
def test_what_is_not_installed_is_no_verdict(command, module, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, command, raising=False)  # imported by another test, runpy warns of it
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(command, run_name="__main__")
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"{command}: error: unexpected ModuleNotFoundError: ")
