"""The exported file: someone else's reading of it, and what it is made of."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from gptloop import OnnxLoop, names
from gptloop.model_file import graphs
from gptloop.runtime.feeds import feeds
from gptloop.runtime.request import check_request

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# What every call is about: all but the state.
OUTPUTS = [names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS, names.REFUSED, names.ENDED]
PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3], [90, 2, 77, 31, 31]])


@pytest.mark.parametrize("top_k", [[50, 5, 60], [50, 0, 97]], ids=["top-k", "one whole vocabulary"])
def test_the_reference_evaluator_gives_the_same_tokens(tiny, top_k):
    """Greedy and sampled, several candidates, prefill and a few decode steps: someone else's reading of the graph.

    Its GatherElements ends short of 64 columns (numpy.choose), hence no larger top_k.
    """
    call = {"temperature": [0, 1, 0.7], "top_k": top_k, "seed": [3, 2**63 - 1, 0]}
    inputs = feeds(check_request(tiny.model.config, PROMPTS, max_new_tokens=5, num_return_sequences=2, **call))
    (expected,) = ReferenceEvaluator(str(tiny.path)).run([names.SEQUENCES], inputs)
    (found,) = tiny.onnx.session.run([names.SEQUENCES], inputs)
    np.testing.assert_array_equal(found, expected, strict=True)
    assert found.shape == (3, 2, 5)
    call = {"max_new_tokens": 5, "num_return_sequences": 2, "temperature": [0, 1, 0.7], "top_k": top_k}
    np.testing.assert_array_equal(tiny.onnx.generate(PROMPTS, **call, seed=[3, 2**63 - 1, 0]), found.reshape(6, 5))


def test_the_reference_evaluator_follows_the_other_settings_too(open_tiny):
    """Padding, end of text, cuts, penalty and log-probabilities, each of which has branches of its own in the graph.

    They gather from the whole vocabulary, which therefore has fewer than 64 ids here.
    """
    tiny = open_tiny(n_layer=1, vocab_size=61)
    request = check_request(
        tiny.model.config,
        PROMPTS % 61,
        attention_mask=[[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]],
        max_new_tokens=8,
        min_new_tokens=2,
        num_return_sequences=2,
        top_k=30,
        top_p=[0.8, 1, 0.5],
        min_p=0.05,
        repetition_penalty=1.5,
        eos_token_id=range(40, 60),
        pad_token_id=9,
        return_logprobs=True,
        seed=4,
    )
    expected = ReferenceEvaluator(str(tiny.path)).run(OUTPUTS, feeds(request))
    found = tiny.onnx.session.run(OUTPUTS, feeds(request))
    np.testing.assert_array_equal(found[0], expected[0], strict=True)
    assert (found[0][..., -1] == 9).any(), "no row ended before the others"
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        # Logarithms of float32 sums, near 10 in magnitude: the last bit is 1e-6, and some tens of them add up.
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_settings_of_one_value_hold_for_every_prompt(tiny):
    """The graph itself broadcasts temperature and top_k of shape [1], which Python never sends for several prompts."""
    call = {"max_new_tokens": 6, "num_return_sequences": 2, "temperature": 0.8, "top_k": 7, "top_p": 0.8, "seed": 4}
    every = feeds(check_request(tiny.model.config, PROMPTS, **call))
    one = {name: every[name][:1] for name in ("temperature", "top_k", "top_p")}
    (found,) = tiny.onnx.session.run([names.SEQUENCES], every | one)
    expected = tiny.onnx.generate(PROMPTS, **call)
    np.testing.assert_array_equal(found.reshape(6, 6), expected)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"n_layer": 1}], ids=str)
def test_the_file_passes_onnxs_full_check(open_tiny, changes):
    onnx.checker.check_model(str(open_tiny(**changes).path), full_check=True)


def test_the_file_uses_nothing_but_standard_operators_of_opset_21(tiny):
    model = onnx.load(tiny.path, load_external_data=False)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 21)]
    assert {node.domain for graph in graphs(model.graph) for node in graph.node} == {""}
    assert not model.functions


def test_without_packed_weights_the_tokens_are_the_same(tiny):
    unpacked = OnnxLoop(tiny.path, device="cpu", prepack=False)
    assert unpacked.session.get_session_options().get_session_config_entry("session.disable_prepacking") == "1"
    prompts = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(
        unpacked.generate(prompts, max_new_tokens=9, seed=2), tiny.onnx.generate(prompts, max_new_tokens=9, seed=2)
    )


def external_place(tensor) -> tuple[str, int] | bytes:
    """Where a tensor's bytes are; a tiny one's are in the .onnx file itself."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return (entries["location"], int(entries["offset"])) if entries else tensor.raw_data


def test_weights_stand_in_the_outer_graph_and_are_named_again_by_the_outer_loops_body(tiny):
    model = onnx.load(tiny.path, load_external_data=False)
    outer, *inner = graphs(model.graph)
    stored = [tensor.name for tensor in outer.initializer]
    assert len(stored) == len(set(stored))
    assert {name.removeprefix("transformer.") for name, _ in tiny.model.named_parameters()} <= set(stored)
    assert "lm_head.weight" not in stored, "it is the token embedding"
    assert len(inner) >= 4, "the Loops' bodies and two branches"
    block, *others = sorted(inner, key=lambda graph: -len(graph.initializer))
    places = {tensor.name: external_place(tensor) for tensor in [*outer.initializer, *block.initializer]}
    assert {name.removeprefix("transformer.") for name, _ in tiny.model.named_parameters()} == {
        tensor.name.removeprefix("steps/") for tensor in block.initializer
    }
    for tensor in block.initializer:
        assert places[tensor.name] == places[tensor.name.removeprefix("steps/")], "of the same bytes of the file"
    for graph in [block, *others]:
        assert graph is block or not graph.initializer
        constants = [node for node in graph.node if node.op_type == "Constant"]
        assert all(node.ByteSize() < 1024 for node in constants)


def test_the_graph_has_the_inputs_and_outputs_that_were_agreed(tiny):  # long: a line for each input and output
    def described(values):
        dims = ((value, value.type.tensor_type) for value in values)
        return {
            value.name: (
                onnx.TensorProto.DataType.Name(kind.elem_type),
                [dim.dim_param or dim.dim_value for dim in kind.shape.dim],
            )
            for value, kind in dims
        }

    def caches(name, key, value):
        kinds = {"key": ("FLOAT", key), "value": ("FLOAT", value)}
        return {f"{name}.{layer}.{kind}": shape for layer in range(2) for kind, shape in kinds.items()}

    graph = onnx.load(tiny.path, load_external_data=False).graph
    assert described(graph.input) == {
        "input_ids": ("INT64", ["B", "P"]),
        "attention_mask": ("INT64", ["B", "P"]),
        "max_new_tokens": ("INT64", ["B_max_new_tokens"]),
        "min_new_tokens": ("INT64", ["B_min_new_tokens"]),
        "num_return_sequences": ("INT64", ["B_num_return_sequences"]),
        "first_candidate": ("INT64", ["B_first_candidate"]),
        "temperature": ("FLOAT", ["B_temperature"]),
        "top_k": ("INT64", ["B_top_k"]),
        "top_p": ("FLOAT", ["B_top_p"]),
        "min_p": ("FLOAT", ["B_min_p"]),
        "repetition_penalty": ("FLOAT", ["B_repetition_penalty"]),
        "no_repeat_ngram_size": ("INT64", ["B_no_repeat_ngram_size"]),
        "sequence_bias_ids": ("INT64", ["B_sequence_bias_ids", "Q_bias", "W_bias"]),
        "sequence_bias": ("FLOAT", ["B_sequence_bias", "Q_bias"]),
        "eos_token_ids": ("INT64", ["B_eos_token_ids", "M"]),
        "stop_sequences": ("INT64", ["B_stop_sequences", "Q_stop", "W_stop"]),
        "pad_token_id": ("INT64", ["B_pad_token_id"]),
        "return_logprobs": ("BOOL", ["B_return_logprobs"]),
        "seed": ("INT64", ["B"]),
        "past_sizes": ("INT64", [3]),
        "past_sequences": ("INT64", ["B_past", "R_past", "G"]),
        "past_ended": ("BOOL", ["B_past", "R_past"]),
        "return_state": ("BOOL", [1]),
        "uniforms": ("FLOAT", ["steps", "rows", 1]),
        **caches("past_prompt", ["B_past", 4, 8, "L"], ["B_past", 4, "L", 8]),
        **caches("past_rows", *[["B_past", 4, "R_past", "E", 8]] * 2),
        **caches("past_block", *[["B_past", 4, "R_past", "C", 8]] * 2),
    }
    assert described(graph.output) == {
        "sequences": ("INT64", ["B", "R", "N"]),
        "logprobs": ("FLOAT", ["B", "R", "N"]),
        "raw_logprobs": ("FLOAT", ["B", "R", "N"]),
        "refused": ("INT64", ["B"]),
        "ended": ("BOOL", ["B", "R"]),
        **caches("present_prompt", ["B", 4, 8, "P_even"], ["B", 4, "P_even", 8]),
        **caches("present_rows", *[["B", 4, "R", "E_present", 8]] * 2),
        **caches("present_block", *[["B", 4, "R", "C_present", 8]] * 2),
    }
