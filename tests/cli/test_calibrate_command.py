"""`gptloop export --calibrate`: a text that shows ranges, and what the file records of it."""

import hashlib
import json

import numpy as np
import onnx
import pytest

from gptloop.cli import main


def exported(trained, path, *options) -> dict[str, str]:
    """The metadata of what the command wrote."""
    assert main(["export", str(trained.directory), "-o", str(path), "--precision", "int8", *map(str, options)]) == 0
    return {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}


def test_a_file_records_what_it_was_calibrated_with(trained, tmp_path):
    (tmp_path / "text.txt").write_text(trained.text)
    (tmp_path / "ids.txt").write_text(" ".join(map(str, trained.ids)))
    digest = hashlib.sha256(np.array(trained.ids, dtype="<i8").tobytes()).hexdigest()
    for option, file in (("--calibrate", "text.txt"), ("--calibrate-ids", "ids.txt")):
        metadata = exported(trained, tmp_path / "model.onnx", option, tmp_path / file)
        assert json.loads(metadata["gptloop_calibration"]) == {"tokens": len(trained.ids), "ids_sha256": digest}
    assert "gptloop_calibration" not in exported(trained, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--precision", "fp16", "--calibrate-ids", "ids.txt"],
            "calibration is for precision 'int8', got precision 'fp16'",
        ),
        (["--precision", "int8", "--calibrate-ids", "nowhere.txt"], "nowhere.txt"),
        (["--precision", "int8", "--calibrate-ids", "beyond.txt"], "got 1..999999"),
        (["--precision", "int8", "--calibrate", "ids.txt", "--random-weights"], "has no tokenizer"),
    ],
)
def test_a_calibration_that_is_none_is_one_line(trained, tmp_path, capsys, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ids.txt").write_text("1 2 3")
    (tmp_path / "beyond.txt").write_text("1 999999")
    model = "distilgpt2" if "--random-weights" in options else str(trained.directory)
    assert main(["export", model, "-o", "model.onnx", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model.onnx").exists()
