"""What the tests of the runtime share."""

import pytest

from gptloop import OnnxLoop, export


@pytest.fixture(params=["onnx", "torch"])
def idle_loop(tiny, request, monkeypatch):
    """A loop that cannot work: whatever it refuses, it refuses before."""
    loop = getattr(tiny, request.param)
    monkeypatch.setattr(loop, {"onnx": "session", "torch": "_run"}[request.param], None)
    return loop


@pytest.fixture(scope="module")
def onnx(tiny):
    return OnnxLoop(tiny.path)


@pytest.fixture(scope="module")
def int8(tiny, tmp_path_factory):
    return OnnxLoop(export(tiny.model, tmp_path_factory.mktemp("int8") / "model.onnx", precision="int8"))
