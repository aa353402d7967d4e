"""Models whose ids have equal embeddings, as padded and resized ones have: ties in every step, and the same tokens."""

from __future__ import annotations

import cut_products
import numpy as np
import pytest
import torch
from other_runtimes import OpenVinoLoop, ReferenceLoop, openvino_is_installed

from gptloop import OnnxLoop, TorchLoop, export

pytestmark = pytest.mark.usefixtures("one_torch_thread")

TWINS = 48  # ids from here on have the embeddings of the first ones
PROMPTS = np.array([[5, 40, 0], [8, 8, 1], [30, 2, 47], [11, 12, 13]])
CALLS = {
    "greedy": {"temperature": 0},
    "top_k": {"top_k": 7},
    "top_k of one": {"top_k": 1},
    "top_k of each": {"top_k": [3, 7, 12, 1]},
    "top_k beside the whole vocabulary": {"top_k": [3, 0, 12, 1]},
    "top_k beside all by number": {"top_k": [3, 96, 12, 1]},
    "greedy beside others": {"temperature": [0, 1, 0, 2], "top_k": [50, 96, 5, 0]},
    "top_p": {"top_p": 0.5, "top_k": 0},
    "top_p of each": {"top_p": [0.9, 0.3, 1, 0.1], "top_k": [5, 0, 9, 50], "seed": 1},
    "min_p": {"min_p": 0.2},
}


@pytest.fixture(scope="module")
def model(tiny_model):
    model = tiny_model(vocab_size=96, n_layer=1)
    with torch.no_grad():
        embeddings = model.transformer.wte.weight
        embeddings[TWINS:] = embeddings[:TWINS]
    return model


@pytest.fixture(scope="module")
def paths(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ties")
    with cut_products.as_here():
        return {
            precision: export(model, folder / f"{precision}.onnx", precision=precision)
            for precision in ("fp32", "int8")
        }


@pytest.fixture(scope="module")
def loops(paths):
    return {precision: OnnxLoop(path, device="cpu", threads=1) for precision, path in paths.items()}


@pytest.fixture(
    scope="module",
    params=[
        ("fp32", ReferenceLoop),
        ("int8", ReferenceLoop),
        pytest.param(("fp32", OpenVinoLoop), marks=openvino_is_installed),  # its int8 products are rounded otherwise
    ],
    ids=lambda param: f"{param[0]}-{param[1].__name__}",
)
def pair(paths, loops, model, request):
    """A file in another runtime, and in ONNX Runtime."""
    precision, other = request.param
    return other(paths[precision], model.config), loops[precision]


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_every_runtime_gives_the_same_tokens(pair, call):
    found, expected = (loop.generate(PROMPTS, max_new_tokens=4, num_return_sequences=2, **call) for loop in pair)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_the_torch_loop_gives_the_same_tokens(loops, model, call):
    call = {"max_new_tokens": 12, "num_return_sequences": 3, **call}
    found = TorchLoop(model, device="cpu").generate(PROMPTS, **call)
    np.testing.assert_array_equal(found, loops["fp32"].generate(PROMPTS, **call))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_of_two_that_tie_the_lower_id_is_taken(loops, precision):
    call = {"max_new_tokens": 20, "temperature": [0, 1, 0, 1], "top_k": [50, 1, 0, 1]}
    assert loops[precision].generate(PROMPTS, **call).max() < TWINS


@pytest.mark.parametrize("flavor", ["lean", "fixed"])
@pytest.mark.parametrize("call", [{"temperature": 0}, {"top_k": 1}, {"top_k": 7}, {"top_k": 96}], ids=str)
def test_the_lean_flavors_give_the_same_tokens(model, tmp_path, flavor, call):
    lean = OnnxLoop(export(model, tmp_path / "lean.onnx", flavor=flavor), device="cpu", threads=1)
    expected = TorchLoop(model, device="cpu").generate(PROMPTS, max_new_tokens=8, num_return_sequences=3, **call)
    np.testing.assert_array_equal(lean.generate(PROMPTS, max_new_tokens=8, num_return_sequences=3, **call), expected)
