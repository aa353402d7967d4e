"""Values that a precision has no numbers for are refused, by name, before anything is written."""

import re

import numpy as np
import pytest
import torch
from exported_files import export
from safetensors.torch import load_file, save_file

from gptloop.cli import main
from gptloop.exporter.exported import read_exported
from gptloop.exporter.int8 import quantize

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Of 97 x 32 numbers, which go into the data file; and of 32, which stay in the .onnx file.
NAMES = ["transformer.wte.weight", "transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.bias"]
PRECISIONS = ["fp32", "fp16", "bf16", "int8"]


@pytest.fixture
def folder(tiny, tmp_path):
    """Writes the tiny model with one value changed, in any type."""
    tiny.model.save_pretrained(tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(file)

    def write(name, value, dtype=torch.float32):
        changed = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        changed[name].view(-1)[-1] = value
        save_file(changed, file, metadata={"format": "pt"})
        return tmp_path / "checkpoint"

    return write


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN"), (np.inf, "infinite numbers"), (-np.inf, "infinite numbers")]
)
def test_nan_and_infinity_are_refused(folder, tmp_path, precision, name, value, said):
    expected = f"{name.removeprefix('transformer.')} holds {said}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        export(folder(name, value), tmp_path / "model.onnx", precision=precision)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_nan_is_refused_in_whatever_type_it_is_stored(folder, tmp_path, dtype):
    with pytest.raises(ValueError, match=r"ln_f\.bias holds NaN"):
        export(folder("transformer.ln_f.bias", np.nan, dtype), tmp_path / "model.onnx")


def test_nan_in_a_module_is_refused(tiny_model, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.transformer.h[0].attn.c_attn.bias[40] = np.nan
    with pytest.raises(ValueError, match=r"h.0.attn.c_attn.bias holds NaN"):
        export(model, tmp_path / "model.onnx", single_file=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("value", "dtype", "precision", "bound"),
    [
        (65520.0, torch.float32, "fp16", "65504"),
        (-1e5, torch.bfloat16, "fp16", "65504"),
        (3.4e38, torch.float32, "bf16", "3.38953e+38"),
        (1e39, torch.float64, "fp32", "3.40282e+38"),
        (-1e300, torch.float64, "int8", "3.40282e+38"),
        (1e39, torch.float64, "fp16", "65504"),
    ],
)
def test_a_value_beyond_the_precisions_range_is_refused(folder, tmp_path, name, value, dtype, precision, bound):
    """The command line's one line is ours, also where the serializer would be the first to read a small tensor."""
    path = folder(name, value, dtype)
    found = load_file(path / "model.safetensors")[name].double().abs().max().item()
    expected = rf"{name.removeprefix('transformer.')} goes up to {found:g}, beyond the largest torch\..* {bound}"
    with pytest.raises(ValueError, match=expected.replace("+", r"\+")):
        export(path, tmp_path / "model.onnx", precision=precision)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_the_command_line_says_it_in_one_line(folder, tmp_path, capsys):
    path = folder("transformer.ln_f.bias", 7e4)
    assert main(["export", str(path), "-o", str(tmp_path / "model.onnx"), "--precision", "fp16"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"gptloop: error: {path}: ln_f.bias goes up to 70000, beyond the largest torch.float16 number 65504"


def test_the_largest_number_of_a_precision_is_exported(folder, tmp_path):
    """As the nearest number that the precision has."""
    for value, precision, name, stored in (
        (65519.0, "fp16", "ln_f.bias", 65504.0),
        (3.38e38, "bf16", "ln_f.bias", float(torch.tensor(3.38e38).bfloat16())),
        (3.4e38, "fp32", "ln_f.bias", float(np.float32(3.4e38))),
        (3.4e38, "int8", "ln_f.channels.bias", float(np.float32(3.4e38))),
    ):
        path = export(folder("transformer.ln_f.bias", value), tmp_path / "model.onnx", precision=precision)
        assert float(read_exported(path).tensors[name].numpy().flat[-1]) == stored


def test_a_query_is_judged_as_it_is_stored(folder, tmp_path):
    """Its columns are divided by the root of the head's width, here 8, before they are rounded."""
    name = "transformer.h.0.attn.c_attn.bias"
    path = folder(name, 1.0)
    tensors = load_file(path / "model.safetensors")
    tensors[name][0] = 1.5e5  # / sqrt(8) = 53033
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    export(path, tmp_path / "model.onnx", precision="fp16")
    tensors[name][0] = 2.5e5
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"h.0.attn.c_attn.bias goes up to 88388"):
        export(path, tmp_path / "model.onnx", precision="fp16")


def test_values_near_the_smallest_number_do_not_change_their_sign_in_8_bits():
    """Their scale is itself rounded to one of few multiples of 2^-149, and the quotient may go beyond 127."""
    matrix = torch.tensor([[180.0, -180.0, 90.0]]) * 2.0**-149
    quantized, scale = quantize(matrix, per_row=True)
    assert quantized.tolist() == [[127, -127, 90]]
    assert scale.tolist() == [2.0**-149]


def test_what_is_beyond_float32_once_it_is_rewritten_for_int8_is_refused(tiny_model, tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.transformer.h[0].ln_2.weight[3] = 1e30
        model.transformer.h[0].mlp.c_fc.weight[3] = 1e30
    with pytest.raises(ValueError, match=r"h\.0\.mlp\.c_fc\.weight goes beyond the largest torch.float32 number 3"):
        export(model, tmp_path / "model.onnx", precision="int8")
    assert not list(tmp_path.iterdir())
