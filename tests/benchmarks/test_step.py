"""The generation without a Loop: two graphs driven from outside give what the one graph gives."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest

from benchmarks.contenders.onnx_step import StepLoop, export_step, on_host
from benchmarks.gpu.placement import HOST_INPUTS
from gptloop.runtime.session import open_session

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3]])
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
ENDS = list(range(30))


@pytest.fixture(scope="module")
def step_folder(tiny, tmp_path_factory):
    """The tiny model with its step graphs."""
    folder = tmp_path_factory.mktemp("step")
    for file in tiny.path.parent.iterdir():
        shutil.copy(file, folder)
    export_step(folder / tiny.path.name)
    return folder


@pytest.fixture(scope="module")
def step_loop(tiny, step_folder):
    return StepLoop(step_folder / tiny.path.name, device="cpu", threads=1)


@pytest.mark.parametrize(
    "call",
    [
        {"temperature": 0},
        {},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
        {"num_return_sequences": 3},
        {"attention_mask": MASK, "repetition_penalty": 1.3},
        {"top_k": 0, "top_p": 0.8},
        {"eos_token_id": ENDS, "pad_token_id": 96, "min_new_tokens": 3},
        {"eos_token_id": ENDS, "num_return_sequences": 2},
        {"stop_sequences": [[token] for token in ENDS], "num_return_sequences": 2},
    ],
    ids=str,
)
def test_steps_from_outside_give_the_tokens_of_both_loops(tiny, step_loop, call):
    call = {"max_new_tokens": 12, "seed": 3, **call}
    found = step_loop.generate(PROMPTS, **call, return_logprobs=True)
    expected = tiny.onnx.generate(PROMPTS, **call, return_logprobs=True)
    np.testing.assert_array_equal(found.tokens, expected.tokens, strict=True)
    np.testing.assert_array_equal(found.tokens, tiny.torch.generate(PROMPTS, **call), strict=True)
    # The same products of the same runtime, but an attention summed in other parts; 1.4e-6 was seen.
    np.testing.assert_allclose(found.logprobs, expected.logprobs, rtol=0, atol=5e-6, strict=True)
    np.testing.assert_allclose(found.raw_logprobs, expected.raw_logprobs, rtol=0, atol=5e-6, strict=True)


def test_the_step_graphs_share_the_models_data_file(step_folder, tiny):
    """The weights are on disk once."""
    (data,) = {file.name for file in step_folder.iterdir()} - {"tiny.onnx", "tiny.prefill.onnx", "tiny.decode.onnx"}
    assert data.endswith(".data")
    for part in ("prefill", "decode"):
        model = onnx.load(step_folder / f"tiny.{part}.onnx", load_external_data=False)
        named = {entry.value for t in model.graph.initializer for entry in t.external_data if entry.key == "location"}
        assert named == {data}
        assert {opset.domain for opset in model.opset_import} == {""}
        assert not any(node.op_type == "Loop" for node in model.graph.node)


def read_on_the_cpu(graph):
    """The values that operators of a graph, and of those inside, read on the CPU where they run on CUDA."""
    read = set()
    for node in graph.node:
        read.update(name for index, name in enumerate(node.input) if index in HOST_INPUTS.get(node.op_type, ()))
        read.update(*(read_on_the_cpu(attribute.g) for attribute in node.attribute if attribute.HasField("g")))
    return read


def test_what_a_step_reads_on_the_cpu_stays_there(step_folder, tiny):
    """Else a GPU copies it to the CPU in each step; and all that is large stays on the GPU."""
    prefill = open_session(step_folder / "tiny.prefill.onnx", device="cpu")
    decode = onnx.load(step_folder / "tiny.decode.onnx", load_external_data=False).graph
    handed = {value.name for value in decode.input if value.name.startswith("handed.")}
    wanted = handed & read_on_the_cpu(decode)
    kept = {output.name for output in prefill.get_outputs() if on_host(output)}
    assert {"handed.rules.settings.cuts.k_max_1", "handed.rules.stop.active", "handed.shapes.BR3Hd"} <= wanted
    beside = {"go_on", "handed.P", *(f"handed.rules.processors.{name}" for name in ("most_min_new_tokens", "always"))}
    assert kept == wanted | beside  # of which a step only computes with a number or a condition
