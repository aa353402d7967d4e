"""Devices: which provider a session gets, and what is said where CUDA cannot be had.

No GPU is needed: ONNX Runtime's own functions are replaced by ones that say what a build for CUDA says. The test with a
GPU is skipped where there is none.
"""

from __future__ import annotations

import ctypes

import numpy as np
import onnxruntime as ort
import pytest
import torch

from gptloop import OnnxLoop, TorchLoop
from gptloop.runtime.session import CPU, CUDA, open_session, preload

IDS = np.random.default_rng(0).integers(0, 97, (2, 5))

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available() or CUDA not in ort.get_available_providers(),
    reason="no GPU that both torch and this build of ONNX Runtime can use",
)


class Session:
    """Notes what it was opened with; its providers are those that `loads` lets it have."""

    loads = (CUDA, CPU)

    def __init__(self, model, options, providers):
        self.asked = providers

    def get_providers(self):
        names = [name if isinstance(name, str) else name[0] for name in self.asked]
        return [name for name in names if name in self.loads]


@pytest.fixture
def cuda_build(monkeypatch):
    """A build for CUDA whose provider loads."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["TensorrtExecutionProvider", CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort, "preload_dlls", lambda: None)


@pytest.fixture
def broken_cuda_build(cuda_build, monkeypatch):
    """A build for CUDA without CUDA's libraries: ONNX Runtime goes on without the provider."""
    monkeypatch.setattr(Session, "loads", (CPU,))
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13:\n cannot open"))


@pytest.fixture
def libraries(monkeypatch):
    """Libraries that do not load, and what the dynamic linker says of them."""
    broken: dict[str, str] = {}

    def load(name, mode):
        for part, words in broken.items():
            if part in name:
                raise OSError(words)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return broken


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_cuda_is_taken_where_it_loads_and_computes_float32_as_float32(cuda_build, device):
    session = open_session(b"", device=device, cuda_options={"enable_cuda_graph": "1"})
    assert session.asked == [(CUDA, {"use_tf32": "0", "enable_cuda_graph": "1"}), CPU]


def test_the_cpu_is_taken_where_it_was_asked_for(cuda_build):
    assert open_session(b"", device="cpu").asked == [CPU]


def test_auto_is_the_cpu_in_a_build_without_cuda(cuda_build, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    assert open_session(b"", device="auto").asked == [CPU]


def test_a_build_without_cuda_is_named(cuda_build, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    words = r"build without CUDA \(it offers AzureExecutionProvider, CPUExecutionProvider\): install onnxruntime-gpu"
    with pytest.raises(ValueError, match=words):
        open_session(b"", device="cuda")


MISSING = [
    ("libcuda.so.1", "libcuda.so.1: cannot open shared object file", r"libcuda\.so\.1: cannot open.*NVIDIA driver"),
    (
        "providers_cuda",
        "libcublasLt.so.13: cannot open",
        r"libcublasLt\.so\.13: cannot open \(pip .*cuda,cudnn",
    ),
    ("providers_shared", "providers_shared.so: no such file", "providers_shared.so: no such file"),
    ("nothing", "", "all its libraries load.*nvidia-smi"),
]


@pytest.mark.parametrize(("library", "says", "words"), MISSING, ids=[library for library, _, _ in MISSING])
def test_the_library_that_is_missing_is_named(broken_cuda_build, libraries, library, says, words):
    libraries[library] = says
    with pytest.raises(ValueError, match=rf"'cuda' was asked for, .* did not load: {words}.*; Failed to load lib"):
        open_session(b"", device="cuda")


def test_auto_warns_where_a_build_for_cuda_runs_on_the_cpu(broken_cuda_build, libraries):
    libraries["libcuda"] = "libcuda.so.1: cannot open"
    with pytest.warns(UserWarning, match=r"runs on the CPU.*libcuda\.so\.1") as warned:
        session = open_session(b"", device="auto")
    assert session.get_providers() == [CPU]
    assert [warning.filename for warning in warned] == [__file__]


def test_what_preloading_prints_is_kept_from_the_user(cuda_build, monkeypatch, capsys):
    monkeypatch.setattr(ort, "preload_dlls", lambda: print("Failed to load\nlibcurand.so.10"))
    assert preload() == "Failed to load libcurand.so.10"
    assert capsys.readouterr().out == ""


def test_the_loop_says_on_which_device_it_runs(tiny):
    assert tiny.onnx.device == "cpu"
    assert OnnxLoop(tiny.path, device="cpu").session.get_providers() == [CPU]


@pytest.mark.parametrize("return_logprobs", [False, True])
def test_only_what_is_asked_for_leaves_the_device(tiny, monkeypatch, return_logprobs):
    bound = []
    session = tiny.onnx.session

    class Binding:
        def __init__(self):
            self._binding = session.io_binding()

        def __getattr__(self, name):
            return getattr(self._binding, name)

        def bind_output(self, name, device):
            bound.append((name, device))
            self._binding.bind_output(name, device)

    class Bound:
        weights = None

        def io_binding(self):
            return Binding()

        def run_with_iobinding(self, binding, options):
            session.run_with_iobinding(binding._binding, options)

    monkeypatch.setattr(tiny.onnx, "session", Bound())
    tiny.onnx.generate(IDS, max_new_tokens=2, return_logprobs=return_logprobs)
    names = ["sequences", "logprobs", "raw_logprobs"] if return_logprobs else ["sequences"]
    assert bound == [(name, "cpu") for name in names]


@needs_cuda
@pytest.mark.parametrize("call", [{}, {"temperature": 0}, {"num_return_sequences": 8}, {"top_k": 0, "top_p": 0.9}])
def test_tokens_on_cuda_are_those_of_torch_on_cuda(tiny, call):
    loop = OnnxLoop(tiny.path, device="cuda")
    assert loop.device == "cuda"
    expected = TorchLoop(tiny.model, device="cuda").generate(IDS, max_new_tokens=24, **call)
    np.testing.assert_array_equal(loop.generate(IDS, max_new_tokens=24, **call), expected)
