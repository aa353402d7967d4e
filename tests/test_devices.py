"""Sessions, threads and devices: what may change without a change of tokens, and what is refused."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gptloop import OnnxLoop, TorchLoop

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PROMPTS = np.array([[5, 96, 0, 17, 42], [8, 8, 1, 60, 3], [90, 2, 77, 31, 31]])


def test_one_loop_may_be_shared_by_threads(tiny):
    def generate(seed: int) -> np.ndarray:
        # Sizes differ from call to call, so that a buffer shared by mistake would show.
        return tiny.onnx.generate(PROMPTS[: 1 + seed % 3], max_new_tokens=10 + seed, num_return_sequences=3, seed=seed)

    expected = [generate(seed) for seed in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for found, wanted in zip(pool.map(generate, range(32)), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("threads", [None, 2, 3])
def test_the_tokens_do_not_depend_on_the_number_of_threads(tiny, threads):
    call = {"max_new_tokens": 20, "num_return_sequences": 8}
    found = OnnxLoop(tiny.path, device="cpu", threads=threads).generate(PROMPTS, **call)
    np.testing.assert_array_equal(found, tiny.onnx.generate(PROMPTS, **call))


def test_a_text_path_opens_the_same_model(tiny):
    found = OnnxLoop(str(tiny.path), device="auto").generate(PROMPTS, max_new_tokens=5)
    np.testing.assert_array_equal(found, tiny.onnx.generate(PROMPTS, max_new_tokens=5))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
def test_a_number_of_threads_that_cannot_be_is_refused(tiny, threads):
    with pytest.raises(ValueError, match=rf"threads must be .*{threads}"):
        OnnxLoop(tiny.path, device="cpu", threads=threads)


def test_an_unknown_device_is_refused_by_name(tiny):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        OnnxLoop(tiny.path, device="tpu")
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got 'tpu'"):
        TorchLoop(tiny.model, device="tpu")


def test_a_long_device_is_not_repeated_in_full(tiny):
    for open_loop in (lambda name: OnnxLoop(tiny.path, device=name), lambda name: TorchLoop(tiny.model, device=name)):
        with pytest.raises(ValueError, match="device must be") as error:
            open_loop("x" * 100_000)
        assert len(str(error.value)) < 300


def test_cuda_is_refused_where_onnx_runtime_has_none(tiny, monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(ValueError, match=r"'cuda' was asked for.*CPUExecutionProvider\): install onnxruntime-gpu"):
        OnnxLoop(tiny.path, device="cuda")


def test_cuda_is_refused_where_torch_has_none(tiny, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda' was asked for"):
        TorchLoop(tiny.model, device="cuda")


def test_the_torch_loop_takes_a_directory_and_a_precision(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    loop = TorchLoop(tmp_path, device="cpu", dtype=torch.bfloat16)
    assert loop.generate(PROMPTS, max_new_tokens=4).shape == (3, 4)
    assert {tensor.dtype for tensor in loop._w.values()} == {torch.bfloat16}
