"""The command line: what it writes, prints and returns, and that an error is one line."""

import os
import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import onnx
import pytest

from gptloop import OnnxLoop
from gptloop.checkpoint import seeded
from gptloop.cli import main
from gptloop.exporter import inspect, structure_text


@pytest.fixture
def tiny_size(monkeypatch):
    """gpt2, but tiny."""
    size = {"n_layer": 1, "n_embd": 16, "n_head": 2, "vocab_size": 31, "n_positions": 16}
    monkeypatch.setitem(seeded.SIZES, "gpt2", size)


def error_line(capsys) -> str:
    """The one line that an error prints, and nothing beside it."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gptloop: error: ")
    assert err.count("\n") == 1
    return err


def test_export_writes_a_model_and_prints_its_path(tiny, tmp_path, capsys):
    tiny.model.save_pretrained(tmp_path / "checkpoint")
    capsys.readouterr()
    path = tmp_path / "model.onnx"
    assert main(["export", str(tmp_path / "checkpoint"), "-o", str(path)]) == 0
    assert capsys.readouterr() == (f"{path}\n", "")
    call = {"max_new_tokens": 5, "num_return_sequences": 2}
    np.testing.assert_array_equal(
        OnnxLoop(path, device="cpu").generate([[1, 2]], **call), tiny.onnx.generate([[1, 2]], **call)
    )


def test_random_weights_need_a_size_and_no_network(tiny_size, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    path = tmp_path / "model.onnx"
    assert main(["export", "gpt2", "--random-weights", "--output", str(path), "--precision", "fp32"]) == 0
    metadata = inspect.inspect(path).metadata
    assert (metadata["gptloop_source"], metadata["gptloop_weights"]) == ("gpt2", "random, seed 0")
    assert capsys.readouterr().err == "", "no bar where nobody looks at a terminal"


def test_single_file_writes_no_other(tiny_size, tmp_path):
    assert main(["export", "gpt2", "--random-weights", "--single-file", "-o", str(tmp_path / "model.onnx")]) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert OnnxLoop(tmp_path / "model.onnx", device="cpu").generate([[1]], max_new_tokens=2, top_k=5).shape == (1, 2)


def test_a_terminal_sees_a_bar(tiny_size, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["export", "gpt2", "--random-weights", "-o", str(tmp_path / "model.onnx")]) == 0
    err = capsys.readouterr().err
    tensors = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer
    total = sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors)
    assert "writing tensors" in err
    assert f"{total}/{total}" in err


def test_inspect_prints_the_structure(tiny, capsys):
    assert main(["inspect", str(tiny.path)]) == 0
    out, err = capsys.readouterr()
    assert out == structure_text.render(inspect.inspect(tiny.path)) + "\n"
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["export", "./nowhere", "-o", "model.onnx"], "no such model directory: ./nowhere"),
        (["export", "empty", "-o", "model.onnx"], "empty/config.json is missing"),
        (["export", "gpt3", "--random-weights", "-o", "model.onnx"], "unknown model size 'gpt3'"),
        (["export", "gpt2", "--random-weights", "-o", "model.pt"], "must end in .onnx, got 'model.pt'"),
        (["export", "gpt2", "--random-weights", "-o", "no/model.onnx"], "no such folder: no"),
        (["export", "gpt2", "--random-weights", "-o", "model.onnx", "--precision", "fp8"], "got 'fp8'"),
        (["export", "gpt2", "--random-weights", "-o", "empty.onnx"], "empty.onnx"),
        (["inspect", "nowhere.onnx"], "no such model file: nowhere.onnx"),
        (["inspect", "text.onnx"], "text.onnx is truncated or no ONNX file"),
        (["inspect", "text.json"], "text.json"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_and_exit_code_2(tiny_size, tmp_path, capsys, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "empty.onnx"):
        (tmp_path / folder).mkdir()
    for name in ("text.onnx", "text.json"):
        (tmp_path / name).write_text("hello\n")
    assert main(arguments) == 2
    assert named in error_line(capsys)


@pytest.mark.parametrize(
    "error",
    [
        OSError("404 Client Error. (Request ID: Root=1)\n\nRepository Not Found for url: https://huggingface.co/none."),
        ValueError("one\ntwo"),
    ],
    ids=["hub", "two lines"],
)
def test_an_error_of_several_lines_is_put_on_one(capsys, monkeypatch, tmp_path, error):
    """Those of the hub have several."""

    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert main(["export", "none/none", "-o", str(tmp_path / "model.onnx")]) == 2
    line = error_line(capsys)
    assert all(word in line for word in str(error).split())


@pytest.mark.parametrize(
    "arguments", [[], ["export"], ["export", "gpt2"], ["inspect"], ["generate"], ["inspect", "a", "--fast"]], ids=str
)
def test_a_command_that_does_not_parse_prints_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: gptloop" in capsys.readouterr().err


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "export" in out
    assert "inspect" in out


def test_gptloop_is_installed_as_a_command():
    (command,) = entry_points(group="console_scripts", name="gptloop")
    assert command.load() is main


@pytest.mark.parametrize(
    "arguments",
    [["inspect", "FILE"], ["generate", "FILE", "--ids", "1,2", "--seed", "0", "-n", "50"]],
    ids=lambda arguments: arguments[0],
)
def test_a_reader_that_leaves_early_is_no_error(tiny, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gptloop", *(str(tiny.path) if word == "FILE" else word for word in arguments)]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_module_runs_as_a_program_and_returns_the_exit_code(tiny):
    """`inspect` does so where neither torch nor transformers can be imported."""
    blocked = (
        "import runpy, sys; sys.modules |= {'torch': None, 'transformers': None}; "
        "runpy.run_module('gptloop', run_name='__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-c", blocked, "inspect", tiny.path], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("metadata\n")
    run = subprocess.run(
        [sys.executable, "-m", "gptloop", "inspect", "nowhere.onnx"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "gptloop: error: no such model file: nowhere.onnx\n"
