"""The flavors for a GPU, on the CPU: the standard graph's tokens from graphs without switches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gptloop import OnnxLoop, TorchLoop, export
from gptloop.exporter.inspect import inspect
from gptloop.exporter.structure_text import render
from gptloop.names import LEAN_FLAVORS
from gptloop.runtime.arguments import Arguments
from gptloop.runtime.lean_call import lean_feeds
from gptloop.runtime.request import check_request
from gptloop.runtime.threefry import uniforms

pytestmark = pytest.mark.usefixtures("one_torch_thread")

N = 12
IDS = np.random.default_rng(0).integers(0, 97, (3, 8))
MASK = np.array([[1] * 8, [0, 0, 0, 1, 1, 1, 1, 1], [0] * 7 + [1]])
CALLS = {
    "sampled": {},
    "greedy": {"temperature": 0},
    "candidates": {"num_return_sequences": 4},
    "one prompt": {"input_ids": IDS[:1], "num_return_sequences": 5},
    "one row": {"input_ids": IDS[:1]},
    "top_k": {"top_k": 3, "seed": 7},
    "all of the vocabulary by number": {"top_k": 97},
    "temperature of each prompt": {"temperature": [0.5, 1.0, 3.0]},
    "padding": {"attention_mask": MASK, "num_return_sequences": 2},
    "seeds": {"seed": [5, 2**40, 1]},
}


@pytest.fixture(scope="module")
def open_flavor(tiny_model, tmp_path_factory):
    """Exports and opens a flavor of the tiny model, once for each set of arguments."""
    opened = {}

    def open_(flavor, precision="fp32", new_tokens=N, **changes):
        key = (flavor, precision, new_tokens, *changes.items())
        if key not in opened:
            path = tmp_path_factory.mktemp(flavor) / "model.onnx"
            fixed = new_tokens if flavor == "unrolled" else None
            export(tiny_model(**changes), path, precision=precision, flavor=flavor, max_new_tokens=fixed)
            opened[key] = OnnxLoop(path, device="cpu", threads=1)
        return opened[key]

    return open_


@pytest.mark.parametrize("flavor", LEAN_FLAVORS)
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_the_tokens_are_those_of_the_torch_loop(tiny, open_flavor, flavor, call):
    call = {"input_ids": IDS, "max_new_tokens": N, **call}
    expected = tiny.torch.generate(**call)
    np.testing.assert_array_equal(open_flavor(flavor).generate(**call), expected, strict=True)


@pytest.mark.parametrize(("flavor", "new_tokens"), [*itertools.product(LEAN_FLAVORS, [1, 2, 40])])
def test_any_number_of_new_tokens(tiny, open_flavor, flavor, new_tokens):
    expected = tiny.torch.generate(IDS, max_new_tokens=new_tokens)
    found = open_flavor(flavor, new_tokens=new_tokens).generate(IDS, max_new_tokens=new_tokens)
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize("flavor", LEAN_FLAVORS)
@pytest.mark.parametrize("changes", [{"activation_function": "relu"}, {"tie_word_embeddings": False}, {"n_layer": 1}])
def test_other_configurations(tiny_model, open_flavor, flavor, changes):
    expected = TorchLoop(tiny_model(**changes), device="cpu").generate(IDS, max_new_tokens=N)
    np.testing.assert_array_equal(open_flavor(flavor, **changes).generate(IDS, max_new_tokens=N), expected)


@pytest.mark.parametrize("flavor", ["lean", "fixed", "unrolled"])
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_lower_precision_gives_the_tokens_of_the_standard_graph(tiny, tmp_path, open_flavor, flavor, precision):
    """Greedy, where int8's rounding of neighbours cannot move a draw."""
    path = export(tiny.model, tmp_path / "standard.onnx", precision=precision)
    expected = OnnxLoop(path, device="cpu", threads=1).generate(IDS, max_new_tokens=N, temperature=0)
    found = open_flavor(flavor, precision=precision).generate(IDS, max_new_tokens=N, temperature=0)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("flavor", LEAN_FLAVORS)
def test_no_step_branches_and_no_weight_stands_in_the_body(open_flavor, flavor):
    structure = inspect(open_flavor(flavor).path)
    assert structure.metadata["gptloop_flavor"] == flavor
    operators = {op for _, op in structure.graph_nodes + structure.body_nodes}
    assert "If" not in operators
    assert ("Loop" in operators) == (flavor != "unrolled")
    assert structure.body_weights == ()
    assert set(structure.opsets) == ({"ai.onnx", "com.microsoft"} if flavor == "fused" else {"ai.onnx"})
    assert ("nodes of a step: " in render(structure)) == (flavor != "unrolled")


def test_fusing_leaves_fewer_nodes_in_a_layer(open_flavor):
    """Two sums, two biases and two norms become two nodes; the bias before the activation is the activation's."""
    lean, fused = (inspect(open_flavor(flavor).path) for flavor in ("lean", "fused"))
    assert lean.body_nodes["ai.onnx", "LayerNormalization"] == 5
    assert fused.body_nodes["ai.onnx", "LayerNormalization"] == 1  # of the embedding, before which nothing is summed
    assert fused.body_nodes["com.microsoft", "SkipLayerNormalization"] == 4
    assert fused.body_nodes["com.microsoft", "FastGelu"] == 2
    assert lean.nodes_per_layer - fused.nodes_per_layer == 2


def test_no_shape_of_the_fixed_cache_depends_on_the_step(open_flavor):
    structure = inspect(open_flavor("fixed").path)
    assert {kind for name, kind in structure.carried.items() if "key" in name} == {"float [B, 4, R, N, 8]"}


REFUSED = {
    "eos_token_id": {"eos_token_id": 5},
    "return_logprobs": {"return_logprobs": True},
    "stop_sequences": {"stop_sequences": [[5]]},
    "first_candidate": {"first_candidate": 1},
    "repetition_penalty": {"repetition_penalty": 1.1},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "sequence_bias, bad_words_ids or suppress_tokens": {"suppress_tokens": [5]},
    "min_p": {"min_p": 0.1},
    "top_p": {"top_p": [1.0, 0.9, 1.0]},
    "temperature 0 for some prompts only": {"temperature": [0, 1, 1]},
    "a top_k for each prompt": {"top_k": [3, 4, 3]},
    "top_k 0": {"top_k": 0},
}


@pytest.mark.parametrize("flavor", LEAN_FLAVORS)
@pytest.mark.parametrize(("feature", "call"), REFUSED.items(), ids=list(REFUSED))
def test_a_feature_that_a_flavor_lacks_is_refused_by_name(open_flavor, flavor, feature, call):
    with pytest.raises(ValueError, match=f"flavor '{flavor}' has no {feature}; flavor 'standard' has"):
        open_flavor(flavor).generate(IDS, max_new_tokens=N, **call)


def test_every_setting_of_a_call_is_heeded_refused_or_without_effect():
    """One that is new has to be decided on."""
    heeded = {"input_ids", "max_new_tokens"}.union(*CALLS.values())
    refused = {"sequence_bias", "bad_words_ids"}.union(*REFUSED.values()) - {"return_logprobs"}
    without_effect = {"min_new_tokens", "pad_token_id"}  # where nothing ends a row early
    assert heeded | refused | without_effect == {"input_ids", *Arguments.__annotations__}


@pytest.mark.parametrize("flavor", LEAN_FLAVORS)
def test_a_call_ends_when_its_time_is_up_or_its_flavor_refuses_that(tiny, open_flavor, flavor):
    loop = open_flavor(flavor, new_tokens=40)
    # So much work that the timer's thread gets a turn before the end, on a busy machine as well.
    work = {"input_ids": np.tile(IDS, (4, 1)), "max_new_tokens": 40, "num_return_sequences": 64}
    error, words = (
        (ValueError, "flavor 'unrolled' has no timeout_s") if flavor == "unrolled" else (TimeoutError, "1e-05")
    )
    with pytest.raises(error, match=words):
        loop.generate(**work, timeout_s=1e-5)
    expected = tiny.torch.generate(IDS, max_new_tokens=40)
    np.testing.assert_array_equal(loop.generate(IDS, max_new_tokens=40), expected)


def test_another_number_of_new_tokens_than_was_written_out_is_refused(open_flavor):
    with pytest.raises(ValueError, match="this file generates max_new_tokens 12, got 11"):
        open_flavor("unrolled").generate(IDS, max_new_tokens=11)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"flavor": "plain"}, "flavor must be one of standard, lean, fixed, fused, unrolled, got 'plain'"),
        ({"flavor": "unrolled"}, "needs max_new_tokens"),
        ({"flavor": "unrolled", "max_new_tokens": 0}, "max_new_tokens must be .*0"),
        ({"flavor": "lean", "max_new_tokens": 4}, "fixed in flavor 'unrolled' only, got 4 for 'lean'"),
        ({"max_new_tokens": 4}, "fixed in flavor 'unrolled' only, got 4 for 'standard'"),
        ({"flavor": "fused", "precision": "int8"}, "'fused' is for floating-point precisions, got precision 'int8'"),
    ],
)
def test_an_export_that_cannot_be_is_refused(tiny, tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        export(tiny.model, tmp_path / "model.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_of_an_unrolled_call_are_the_generators(tiny):
    request = check_request(tiny.model.config, IDS, max_new_tokens=5, num_return_sequences=4, seed=[9, 8, 7])
    numbers = lean_feeds(request, "unrolled", 5)["uniforms"]
    expected = uniforms(request.seed, 4, 5)  # [B, R, N]
    assert numbers.shape == (5, 12, 1)
    np.testing.assert_array_equal(numbers[3, 4 * 1 + 2], expected[1, 2, 3:4])
