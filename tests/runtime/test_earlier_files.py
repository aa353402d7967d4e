"""A file of before the graph had all of its inputs: it generates, and refuses what it lacks if that is asked for."""

import numpy as np
import onnx
import pytest

from gptloop import OnnxLoop, export
from gptloop.runtime.earlier_files import OFF, fitted

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = np.random.default_rng(0).integers(0, 97, (2, 5))
ASKED = {
    "first_candidate": {"first_candidate": 1},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": [0, 2]},
    "sequence_bias_ids": {"suppress_tokens": [3]},
    "stop_sequences": {"stop_sequences": [3, 4]},
}


@pytest.fixture(scope="module")
def earlier(tiny_model, tmp_path_factory):
    """Its graph has no such inputs, here made constants, and one min_p for all prompts."""
    path = export(tiny_model(), tmp_path_factory.mktemp("earlier") / "model.onnx", single_file=True)
    model = onnx.load(path)
    shapes = {"sequence_bias_ids": (1, 1, 1), "stop_sequences": (1, 1, 1), "sequence_bias": (1, 1)}
    for value in [value for value in model.graph.input if value.name in OFF]:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        off = np.full(shapes.get(value.name, (1,)), OFF[value.name], dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(off, value.name))
        model.graph.input.remove(value)
    (min_p,) = (value for value in model.graph.input if value.name == "min_p")
    min_p.type.tensor_type.shape.dim[0].dim_value = 1
    kept = [entry for entry in model.metadata_props if not entry.key.endswith("_sha256")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, path)
    return OnnxLoop(path, device="cpu", threads=1)


def test_it_generates_the_tokens_that_a_file_of_today_does(tiny, earlier):
    call = {"max_new_tokens": 6, "min_p": 0.1, "repetition_penalty": 1.3, "eos_token_id": list(range(30))}
    np.testing.assert_array_equal(earlier.generate(PROMPTS, **call), tiny.onnx.generate(PROMPTS, **call))


@pytest.mark.parametrize("name", ASKED)
def test_what_it_lacks_is_refused_if_it_is_asked_for(earlier, name):
    with pytest.raises(ValueError, match=f"no input {name}: export it again"):
        earlier.generate(PROMPTS, max_new_tokens=4, **ASKED[name])


def test_another_value_for_each_prompt_is_refused(earlier):
    with pytest.raises(ValueError, match=r"has one min_p for all prompts, got \[0.25, 0.5\]: export it again"):
        earlier.generate(PROMPTS, max_new_tokens=4, min_p=[0.25, 0.5])


def test_an_input_that_came_later_has_a_value_that_asks_for_nothing(tiny):
    """A file without any of them is fed the rest."""
    inputs = {value.name: value.shape for value in tiny.onnx.session.get_inputs()}
    assert OFF.keys() < inputs.keys()
    feeds = {name: np.full(1, OFF.get(name, 7)) for name in inputs}
    rest = {name: shape for name, shape in inputs.items() if name not in OFF}
    assert fitted(feeds, rest, tiny.path).keys() == rest.keys()
