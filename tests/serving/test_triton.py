"""A real tritonserver serves what `gptloop serve-config` wrote: every answer is OnnxLoop's, batched or not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle, repeat
from pathlib import Path

import numpy as np
import pytest
from triton_server import Server, absent, infer, running, statistics, tensors

from gptloop import OnnxLoop, export, names
from gptloop.runtime.loop import Outputs
from gptloop.serving import add_to_repository

ROOT = Path(__file__).parents[2]
MODELS = ("fp32", "int8")
ENDS = list(range(30))
LOGPROB_TOLERANCE = 5e-5  # other sums in a batch of another size; that of tests/test_runtimes.py

SETTINGS = [
    {"max_new_tokens": 20},
    {"max_new_tokens": 3, "temperature": 0},
    {"max_new_tokens": 12, "num_return_sequences": 4, "top_k": 0, "min_p": 0.02},
    {"max_new_tokens": 9, "temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.3},
    {"max_new_tokens": 25, "eos_token_id": ENDS, "pad_token_id": 96, "min_new_tokens": 4},
    {"max_new_tokens": 7, "num_return_sequences": 2, "first_candidate": 5, "return_logprobs": True},
]
LENGTHS = (3, 5, 8, 1)


@dataclass(frozen=True)
class Served:
    server: Server
    loops: dict[str, OnnxLoop]


@pytest.fixture(scope="module")
def served(tiny, tiny_model, tmp_path_factory) -> Iterator[Served]:
    """The models in one server: both precisions, and one of GPT-2's vocabulary, for what the documents show."""
    if reason := absent():
        if os.environ.get("CI") and "not installed" in reason:
            pytest.fail(f"{reason}, and CI must see it served")
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("triton")
    paths = {"fp32": tiny.path, "int8": export(tiny_model(), folder / "int8.onnx", precision="int8")}
    small = tiny_model(n_layer=1, n_embd=4, n_head=2, vocab_size=50257)
    paths["gpt2"] = export(small, folder / "gpt2.onnx")
    for name, path in paths.items():
        add_to_repository(path, folder / "models", name=name, max_batch_size=8)
    loops = {name: OnnxLoop(path, device="cpu", threads=1) for name, path in paths.items()}
    with running(folder / "models", folder) as server:
        yield Served(server, loops)


def requests(loop: OnnxLoop, number: int) -> list:
    """Of different lengths, settings and seeds; one in eight is not padded, and shares a call with few others."""
    draw = np.random.default_rng(number)
    found = []
    for i in range(number):
        ids = draw.integers(0, 96, LENGTHS[i % len(LENGTHS)]).tolist()
        prompt = {"input_ids": [ids]} if i % 8 == 7 else padded(ids)
        found.append(loop.check(**prompt, seed=1000 + i, **SETTINGS[i % len(SETTINGS)]))
    return found


def padded(ids: list[int]) -> dict[str, list[list[int]]]:
    """By the rule of docs/serving.md: on the left, to the next multiple of 8."""
    pad = -len(ids) % 8
    return {"input_ids": [[0] * pad + ids], "attention_mask": [[0] * pad + [1] * len(ids)]}


def assert_is_answer(loop: OnnxLoop, request, answer) -> None:
    """What the request asked for is what it gets alone; the rest is padding, which others have asked for.

    In int8, a request for one candidate may get what the first of several would be, if others asked for several.
    """
    alone = loop._run(request)
    R, N = request.num_return_sequences, alone.tokens.shape[1]
    tokens, *logprobs, refused = (x[0] for x in answer)
    assert refused == 0
    if loop.metadata[names.META_PRECISION] == "int8" and R == 1 and not np.array_equal(tokens[:1, :N], alone.tokens):
        several = loop._run(replace(request, num_return_sequences=2))
        alone = Outputs(*(x[:1] for x in several))
    np.testing.assert_array_equal(tokens[:R, :N], alone.tokens)
    for found, expected in zip(logprobs, alone[1:], strict=True):
        np.testing.assert_allclose(found[:R, :N], expected, rtol=0, atol=LOGPROB_TOLERANCE)
    assert (tokens[R:] == request.pad_token_id).all()
    assert (tokens[:, N:] == request.pad_token_id).all()


@pytest.mark.parametrize("model", MODELS)
def test_concurrent_requests_get_what_they_get_alone_and_are_batched(served, model):
    loop = served.loops[model]
    before = statistics(served.server, model)
    asked = requests(loop, 48)
    inputs = [tensors(request) for request in asked]
    with ThreadPoolExecutor(len(asked)) as pool:
        first = pool.submit(infer, served.server, "http", model, tensors(long(loop)))  # while it runs, a queue forms
        answers = list(pool.map(infer, repeat(served.server), cycle(["http", "grpc"]), repeat(model), inputs))
        assert_is_answer(loop, long(loop), first.result())
    for request, answer in zip(asked, answers, strict=True):
        assert_is_answer(loop, request, answer)
    after = statistics(served.server, model)
    requested, run = after.requests - before.requests, after.runs - before.runs
    print(f"{model}: {requested} requests in {run} calls, the largest of {max(after.batch_sizes)}")
    assert requested == 1 + len(asked)
    assert run <= 0.6 * len(asked)
    assert max(after.batch_sizes) >= 4


def test_a_request_of_several_prompts_is_one(served):
    loop = served.loops["fp32"]
    settings = {"max_new_tokens": 6, "num_return_sequences": 2, "temperature": [0.5, 1.5], "seed": 8}
    request = loop.check([[1, 2, 3], [4, 5, 6]], **settings)
    tokens = infer(served.server, "http", "fp32", tensors(request))[0]
    np.testing.assert_array_equal(tokens.reshape(4, 6), loop._run(request).tokens)


def test_a_prompt_that_the_client_has_padded_gets_what_it_gets_without(served):
    loop = served.loops["fp32"]
    for ids in ([7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9]):
        answer = infer(served.server, "grpc", "fp32", tensors(loop.check(**padded(ids), max_new_tokens=9, seed=5)))
        np.testing.assert_array_equal(answer[0][0], loop.generate([ids], max_new_tokens=9, seed=5))


def long(loop: OnnxLoop, candidates: int = 800):
    """What takes the server about a second for 1,000 candidates."""
    return loop.check([[1, 2, 3]], max_new_tokens=60, num_return_sequences=candidates, seed=1)


def test_the_documents_client_gets_what_onnx_loop_gives(served):
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "serving.md").read_text(), flags=re.M | re.S)
    found = {}
    exec(code.replace("localhost:8000", served.server.http), found)
    settings = {"num_return_sequences": 2, "temperature": 0.7, "seed": 1, "eos_token_id": 50256}
    expected = served.loops["gpt2"].generate([[464, 3139, 286, 4881, 318]], max_new_tokens=10, **settings)
    np.testing.assert_array_equal(found["tokens"], expected)


def test_the_documents_request_gets_what_onnx_loop_gives(served):
    body = (ROOT / "deploy" / "request.json").read_bytes()
    with urllib.request.urlopen(f"http://{served.server.http}/v2/models/gpt2/infer", body) as response:
        tokens, refused = json.load(response)["outputs"]
    settings = {"num_return_sequences": 2, "temperature": 0.7, "seed": 1, "eos_token_id": 50256}
    expected = served.loops["gpt2"].generate([[464, 3139, 286, 4881, 318]], max_new_tokens=10, **settings)
    assert tokens["data"] == expected.ravel().tolist()
    assert refused["data"] == [0]


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
import numpy as np
import tritonclient.grpc
from triton_server import Server, infer
inputs = dict(np.load(sys.argv[2]))
print("sending", flush=True)
infer(Server("", sys.argv[1], Path(), None), "grpc", "fp32", inputs)
print("answered", flush=True)
"""


def test_a_killed_client_takes_nobody_along(served, tmp_path):
    loop = served.loops["fp32"]
    np.savez(tmp_path / "long.npz", **tensors(long(loop, 4000)))
    before = statistics(served.server, "fp32")
    code = KILLED.format(path=[str(Path(__file__).parent)])
    command = [sys.executable, "-c", code, served.server.grpc, str(tmp_path / "long.npz")]
    asked = requests(loop, 12)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client, ThreadPoolExecutor(12) as pool:
        assert client.stdout.readline() == "sending\n"
        time.sleep(0.2)  # what it asks for takes seconds
        answers = [pool.submit(infer, served.server, "http", "fp32", tensors(request)) for request in asked]
        client.send_signal(signal.SIGKILL)
        assert client.stdout.read() == ""  # killed before it had its answer
        for request, answer in zip(asked, answers, strict=True):
            assert_is_answer(loop, request, answer.result())
    assert statistics(served.server, "fp32").requests >= before.requests + len(asked)
    assert served.server.process.poll() is None


BAD = {
    "no prompt": (lambda inputs: inputs.pop("input_ids"), "but missing required input"),
    "an unknown setting": (lambda inputs: inputs.update(beams=inputs["top_k"]), "inputs but got"),
    "another type": (lambda inputs: inputs.update(top_k=np.float32(inputs["top_k"])), "data-type is 'FP32'"),
    "another shape": (lambda inputs: inputs.update(top_k=inputs["top_k"].repeat(2, 1)), "unexpected shape"),
    "too many prompts": (
        lambda inputs: inputs.update({name: x.repeat(9, 0) for name, x in inputs.items()}),
        "batch-size must be <= 8",
    ),
    "a prompt beyond the model's positions": (
        lambda inputs: inputs.update({name: inputs[name].repeat(30, 1) for name in ("input_ids", "attention_mask")}),
        "must be within the inclusive range [-64,63]",
    ),
}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=list(BAD))
def test_what_is_no_request_is_refused_in_words_and_the_server_goes_on(served, protocol, change, message):
    from tritonclient.utils import InferenceServerException  # noqa: PLC0415  (optional)

    (good,) = requests(served.loops["fp32"], 1)
    inputs = tensors(good)
    change(inputs)
    with pytest.raises(InferenceServerException) as error:
        infer(served.server, protocol, "fp32", inputs)
    assert message in str(error.value)
    assert_is_answer(served.loops["fp32"], good, infer(served.server, protocol, "fp32", tensors(good)))


@pytest.mark.parametrize(
    ("name", "value"), [("input_ids", 97), ("temperature", -1), ("max_new_tokens", 62), ("eos_token_ids", 2**40)]
)
def test_a_value_out_of_its_bounds_is_named_and_its_neighbours_get_their_answers(served, name, value):
    loop = served.loops["fp32"]
    good = requests(loop, 12)
    bad = tensors(good[0])
    bad[name][0, -1] = value
    started = threading.Barrier(len(good) + 1)

    def send(inputs):
        started.wait()
        return infer(served.server, "http", "fp32", inputs)

    with ThreadPoolExecutor(len(good) + 1) as pool:
        refused = pool.submit(send, bad)
        answers = list(pool.map(send, map(tensors, good)))
        assert names.REFUSABLE[refused.result()[3].item() - 1] == name
    for request, answer in zip(good, answers, strict=True):
        assert_is_answer(loop, request, answer)
