"""Opening a model: ONNX Runtime runs the very file that was read, and its errors are one line that names the file."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported_files import export

from gptloop import OnnxLoop
from gptloop.runtime import opening

IDS = np.random.default_rng(0).integers(0, 97, (2, 5))


@pytest.fixture
def model(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny.path.parent, tmp_path / "copy")) / tiny.path.name


def tokens(loop):
    return loop.generate(IDS, max_new_tokens=6)


@pytest.mark.parametrize("single_file", [False, True])
@pytest.mark.parametrize("after", [False, True], ids=["before it is opened", "after it is opened"])
def test_a_model_that_is_replaced_while_it_is_opened_is_no_mix(
    tiny, tiny_model, tmp_path, monkeypatch, single_file, after
):
    other = tiny_model(vocab_size=61, weights_seed=5)
    path = export(tiny.model, tmp_path / "model.onnx", single_file=single_file)
    open_session, times = opening.open_session, []

    def replacing(*arguments, **keywords):
        session = open_session(*arguments, **keywords) if after or times else None
        if not times:
            times.append(export(other, path, single_file=single_file))
        return session or open_session(*arguments, **keywords)

    monkeypatch.setattr(opening, "open_session", replacing)
    loop = OnnxLoop(path, device="cpu", threads=1)
    model = tiny.model if loop.bounds.vocab_size == 97 else other
    expected = OnnxLoop(export(model, tmp_path / "expected.onnx"), device="cpu", threads=1)
    ids = IDS % 61
    np.testing.assert_array_equal(loop.generate(ids, max_new_tokens=6), expected.generate(ids, max_new_tokens=6))


def test_onnx_runtime_is_handed_what_was_read(model, monkeypatch):
    """Not a path, behind which another file may be by then."""
    seen = []
    open_session = opening.open_session

    def noting(opened, **keywords):
        seen.append(opened)
        return open_session(opened, **keywords)

    monkeypatch.setattr(opening, "open_session", noting)
    OnnxLoop(model, device="cpu")
    assert seen == [model.read_bytes()]


def test_the_log_names_no_inputs_where_cuda_is_tried(tiny, monkeypatch, capfd):
    """ONNX Runtime warns of each that has a default: 76 lines for gpt2."""
    monkeypatch.setattr(opening, "cpu_alone", lambda device: False)
    np.testing.assert_array_equal(tokens(OnnxLoop(tiny.path, device="cpu", threads=1)), tokens(tiny.onnx))
    assert "graph inputs" not in capfd.readouterr().err


def test_the_working_directory_is_not_the_models_folder(model, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(model.parent)
    np.testing.assert_array_equal(tokens(OnnxLoop(model.name, device="cpu", threads=1)), tokens(tiny.onnx))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(tokens(OnnxLoop("copy/tiny.onnx", device="cpu", threads=1)), tokens(tiny.onnx))


def test_what_onnx_runtime_refuses_is_one_line_that_names_the_file(model, capfd):
    """A file of before the graph's hash was recorded; what is wrong with it only ONNX Runtime knows."""
    proto = onnx.load(model, load_external_data=False)
    proto.graph.node[0].op_type = "NoSuchOperator"
    kept = {entry.key: entry.value for entry in proto.metadata_props if not entry.key.endswith("_sha256")}
    onnx.helper.set_model_props(proto, kept)
    onnx.save(proto, model)
    words = f"{model} is damaged, or ONNX Runtime {ort.__version__} cannot run it: "
    with pytest.raises(ValueError, match=re.escape(words) + ".*NoSuchOperator") as caught:
        OnnxLoop(model, device="cpu")
    assert len(str(caught.value)) < len(words) + 600
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "nor does it write a log"


@pytest.mark.parametrize("prepack", [True, False])
def test_a_data_file_that_was_cut_short_in_place_is_named_instead_of_read(model, prepack):
    """Reading it would end the process."""
    loop = OnnxLoop(model, device="cpu", threads=1, prepack=prepack)
    (data,) = model.parent.glob("*.data")
    size = data.stat().st_size
    os.truncate(data, 100)
    with pytest.raises(OSError, match=re.escape(f"{data} was cut short while it is in use: 100 bytes of {size}")):
        tokens(loop)


@pytest.mark.parametrize("prepack", [True, False])
def test_a_data_file_that_is_replaced_by_a_rename_goes_on_being_read(model, tiny, prepack):
    loop = OnnxLoop(model, device="cpu", threads=1, prepack=prepack)
    (data,) = model.parent.glob("*.data")
    (model.parent / "other").write_bytes(b"")
    os.replace(model.parent / "other", data)
    np.testing.assert_array_equal(tokens(loop), tokens(tiny.onnx))
