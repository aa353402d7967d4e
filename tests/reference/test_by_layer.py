"""Where a precision loses, product by product."""

import json

import numpy as np
import pytest
from outliers import token_outlier

from gptloop import export
from gptloop.cli import main
from gptloop.exporter.exported import read_exported
from gptloop.reference.by_layer import errors_by_layer

pytestmark = pytest.mark.usefixtures("one_torch_thread")

IDS = np.random.default_rng(0).integers(0, 97, 40)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-6), ("fp16", 1e-3), ("int8", 0.03)])
def test_each_product_of_a_pass_has_an_error_of_its_precisions_size(open_tiny, tmp_path, precision, most):
    tiny = open_tiny(tie_word_embeddings=False)
    path = export(tiny.model, tmp_path / "model.onnx", precision=precision)
    errors = errors_by_layer(path, tiny.model, IDS)
    assert [name for name, _ in errors[:2]] == ["h.0.attn.c_attn", "h.0.attn.c_proj"]
    assert errors[-1].name == "lm_head"
    assert len(errors) == 4 * tiny.model.config.n_layer + 1
    assert all(error <= most for _, error in errors)
    assert precision != "int8" or all(error > 1e-4 for _, error in errors)


def test_a_calibrated_file_is_judged_by_its_own_factors(trained, tmp_path):
    ids = np.array(trained.ids)
    path = export(trained.model, tmp_path / "model.onnx", precision="int8", calibration=ids)
    assert max(error for _, error in errors_by_layer(path, trained.model, ids)) < 0.03


@pytest.mark.parametrize("calibrated", [False, True])
def test_an_evened_out_mlp_is_compared_as_it_was(trained, tmp_path, calibrated):
    ids = np.array(trained.ids)
    token = next(token for token in trained.ids[8:64] if trained.ids[:64].count(token) == 1)
    model = token_outlier(trained.model, trained.ids, token, 100, read=0.01)
    path = export(model, tmp_path / "model.onnx", precision="int8", calibration=ids if calibrated else None)
    assert "h.1.mlp.c_proj.input_factors" in read_exported(path).tensors
    assert dict(errors_by_layer(path, model, ids))["h.1.mlp.c_proj"] < 0.03


def test_a_product_that_gives_nothing_loses_nothing(tiny_model, tmp_path):
    model = tiny_model()
    model.transformer.h[0].attn.c_proj.weight.data[:] = 0
    path = export(model, tmp_path / "model.onnx", precision="int8")
    assert dict(errors_by_layer(path, model, IDS))["h.0.attn.c_proj"] == 0
    given = export(tiny_model(), tmp_path / "other.onnx", precision="int8")
    assert dict(errors_by_layer(given, model, IDS))["h.0.attn.c_proj"] == 1


def test_one_damaged_product_stands_out(tiny_model, tmp_path):
    """Of the file's c_fc in layer 1, which the source says otherwise."""
    model, other = tiny_model(), tiny_model()
    path = export(model, tmp_path / "model.onnx", precision="int8")
    other.transformer.h[1].mlp.c_fc.weight.data[:, 3] *= 5
    errors = dict(errors_by_layer(path, other, IDS))
    assert errors.pop("h.1.mlp.c_fc") > 0.1 > 3 * max(errors.values())


def test_the_command_prints_a_line_a_layer_and_json(trained, tmp_path, capsys):
    path = export(trained.directory, tmp_path / "model.onnx", precision="int8")
    (tmp_path / "text.txt").write_text(trained.text)
    arguments = ["evaluate", str(path), "--text", str(tmp_path / "text.txt"), "--by-layer"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-4:]] == ["layer", "0", "1", "head"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["by_layer"].keys() >= {"h.1.mlp.c_proj", "lm_head"}
