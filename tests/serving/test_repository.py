"""`gptloop serve-config`: what it writes, what it refuses, and that it leaves a repository whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from gptloop import OnnxLoop, export, names
from gptloop.cli import main
from gptloop.serving import add_to_repository


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_configuration_is_of_tritons_schema_and_has_every_input_in_its_shape(tiny, tmp_path):
    model_config = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not installed")
    from google.protobuf import text_format  # noqa: PLC0415

    add_to_repository(tiny.path, tmp_path, name="tiny", max_batch_size=4)
    config = text_format.Parse((tmp_path / "tiny" / "config.pbtxt").read_text(), model_config.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", 4)
    assert config.dynamic_batching.max_queue_delay_microseconds > 0
    assert [group.kind for group in config.instance_group] == [model_config.ModelInstanceGroup.KIND_CPU]
    types = {"tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32", "tensor(bool)": "TYPE_BOOL"}
    session = tiny.onnx.session
    wanted = (names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS, names.REFUSED)
    outputs = [value for value in session.get_outputs() if value.name in wanted]
    for configured, values in ((config.input, session.get_inputs()), (config.output, outputs)):
        assert [value.name for value in configured] == [value.name for value in values]
        for found, value in zip(configured, values, strict=True):
            assert found.data_type == model_config.DataType.Value(types[value.type])
            dims = found.reshape.shape if found.HasField("reshape") else found.dims
            assert list(dims) == [-1] * (len(value.shape) - 1)
            assert list(found.dims) == list(dims) or list(found.dims) == [1]
    assert config.parameters["vocab_size"].string_value == "97"


def test_the_repository_holds_a_model_that_any_runtime_opens(trained, tmp_path, capsys):
    assert main(["serve-config", str(trained.path), "-o", str(tmp_path / "models"), "--name", "trained"]) == 0
    version = tmp_path / "models" / "trained" / "1"
    assert str(version) in capsys.readouterr().out
    ort.InferenceSession(version / "model.onnx", providers=["CPUExecutionProvider"])
    copy = OnnxLoop(version / "model.onnx", device="cpu", threads=1, verify=True)
    prompt = [trained.ids[:8]]
    np.testing.assert_array_equal(
        copy.generate(prompt, max_new_tokens=5), trained.onnx.generate(prompt, max_new_tokens=5)
    )
    assert any(name.endswith(".tokenizer.json") for name in files(version))


def test_another_model_of_the_name_becomes_the_next_version_and_the_same_none(tiny, tiny_model, tmp_path):
    first = add_to_repository(tiny.path, tmp_path)
    before = files(tmp_path)
    assert add_to_repository(tiny.path, tmp_path) == first
    assert files(tmp_path) == before
    other = export(tiny_model(weights_seed=1), tmp_path / "other.onnx")
    assert add_to_repository(other, tmp_path) == first.with_name("2")
    assert before < files(tmp_path)


def test_a_configuration_that_somebody_changed_is_kept(tiny, tmp_path):
    add_to_repository(tiny.path, tmp_path)
    config = tmp_path / "gpt2" / "config.pbtxt"
    config.write_text(config.read_text() + "# mine\n")
    with pytest.raises(ValueError, match=r"gpt2 is there with another config\.pbtxt"):
        add_to_repository(tiny.path, tmp_path)
    assert config.read_text().endswith("# mine\n")


def test_a_full_disk_leaves_the_repository_as_it_was(tiny, tmp_path, monkeypatch):
    add_to_repository(tiny.path, tmp_path, name="there")
    before = files(tmp_path)

    def fails(source, target):
        Path(target).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(shutil, "copyfile", fails)
    with pytest.raises(OSError, match="No space left"):
        add_to_repository(tiny.path, tmp_path)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--name", "../other"], "name must be up to 100 letters"),
        (["--name", ""], "name must be up to 100 letters"),
        (["--max-batch-size", "0"], "max_batch_size must be"),
        (["--max-batch-size", str(2**31)], "max_batch_size must be"),
        (["-o", "no/such/folder"], "no such folder: no/such"),
    ],
)
def test_what_is_wrong_is_one_line(tiny, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["serve-config", str(tiny.path), "-o", "models", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not files(tmp_path)


def test_a_flavor_for_a_gpu_cannot_be_batched(tiny_model, tmp_path):
    path = export(tiny_model(), tmp_path / "lean.onnx", flavor="lean")
    with pytest.raises(ValueError, match=r"lean\.onnx is of flavor 'lean', whose settings hold for a whole batch"):
        add_to_repository(path, tmp_path / "models")


def test_a_file_of_before_settings_were_each_prompts_own_is_to_be_exported_again(tiny, tmp_path):
    for file in tiny.path.parent.glob("tiny*"):
        shutil.copy(file, tmp_path)
    model = onnx.load(tmp_path / "tiny.onnx", load_external_data=False)
    (value,) = (value for value in model.graph.input if value.name == names.MAX_NEW_TOKENS)
    value.type.tensor_type.shape.dim[0].dim_value = 1
    for entry in list(model.metadata_props):
        if entry.key == names.META_GRAPH_SHA256:
            model.metadata_props.remove(entry)
    onnx.save(model, tmp_path / "tiny.onnx")
    with pytest.raises(ValueError, match=r"tiny\.onnx has one max_new_tokens for a whole batch: export it again"):
        add_to_repository(tmp_path / "tiny.onnx", tmp_path / "models")
