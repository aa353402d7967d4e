"""A model file that is not whole, or not ours, is refused with its name before ONNX Runtime sees it."""

import re
import shutil

import onnx
import pytest
from onnx import TensorProto, helper

from gptloop import OnnxLoop
from gptloop.exporter.inspect import inspect
from gptloop.model_file import read_model

READERS = [OnnxLoop, inspect]
every_reader = pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)


@pytest.fixture
def model(tiny, tmp_path):
    """A copy of the tiny model to be spoilt."""
    return shutil.copytree(tiny.path.parent, tmp_path / "copy") / tiny.path.name


@pytest.fixture
def data(model):
    (data,) = model.parent.glob("*.data")
    return data


def truncate(file, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def test_a_whole_model_is_read_with_its_data_file(model, data):
    found = read_model(model)
    assert (found.path, found.data) == (model, (data,))
    assert found.metadata["gptloop_precision"] == "fp32"


@every_reader
def test_a_missing_model_file_is_named(read, tmp_path):
    for missing in (tmp_path / "nowhere.onnx", tmp_path):  # a folder is no model file either
        with pytest.raises(FileNotFoundError, match=re.escape(f"no such model file: {missing}")):
            read(missing)


@every_reader
def test_a_missing_data_file_is_named_with_the_model_that_needs_it(read, model, data):
    data.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"{model} needs its data file {data}")):
        read(model)


@every_reader
@pytest.mark.parametrize("eighths", range(8))
def test_a_truncated_model_file_is_named(read, model, eighths):
    truncate(model, model.stat().st_size * eighths // 8)
    with pytest.raises(ValueError, match=re.escape(f"{model} is truncated")):
        read(model)


def test_a_model_file_that_lacks_its_last_bytes_is_truncated_however_few(model):
    """Also where what is left is a whole protobuf message."""
    content = model.read_bytes()
    for missing in range(1, 300):
        model.write_bytes(content[:-missing])
        with pytest.raises(ValueError, match=re.escape(f"{model} is truncated")):
            pytest.fail(f"{missing} bytes less went unnoticed: {read_model(model).metadata.keys()}")


@every_reader
@pytest.mark.parametrize("left", [0.0, 0.5, 1.0], ids=["empty", "half", "all but a byte"])
def test_a_truncated_data_file_is_named_with_what_it_has_and_needs(read, model, data, left):
    size = data.stat().st_size
    kept = min(int(size * left), size - 1)
    truncate(data, kept)
    with pytest.raises(ValueError, match=re.escape(f"{data} is truncated: {kept} bytes, {model} needs {size}")):
        read(model)


@every_reader
def test_somebody_elses_onnx_file_is_refused(read, tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "foreign", [value], [])
    onnx.save(helper.make_model(graph), tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'foreign.onnx'}") + ".*was not written by gptloop"):
        read(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("name", ["notes.onnx", "notes", "config.json", "notes.onnxtxt"])
@pytest.mark.parametrize("content", [b'{"model_type": "gpt2"}\n', b"\x89PNG\r\n\x1a\n"], ids=["json", "png"])
def test_a_file_that_is_no_onnx_file_is_refused_whatever_its_name(tmp_path, name, content):
    """Left to itself, onnx.load chooses a parser by the name's ending."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name} is truncated or no ONNX file")):
        OnnxLoop(tmp_path / name)


def test_a_model_under_another_ending_is_still_a_model(model):
    renamed = model.rename(model.with_suffix(".json"))
    assert read_model(renamed).path == renamed


def test_reading_does_not_load_the_weights(model):
    tensors = {tensor.name: tensor for tensor in read_model(model).proto.graph.initializer}
    assert not tensors["wte.weight"].raw_data
