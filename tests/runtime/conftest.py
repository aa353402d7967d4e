"""What the tests of the runtime share."""

import pytest


@pytest.fixture(params=["onnx", "torch"])
def idle_loop(tiny, request, monkeypatch):
    """A loop that cannot work: whatever it refuses, it refuses before."""
    loop = getattr(tiny, request.param)
    monkeypatch.setattr(loop, {"onnx": "session", "torch": "_run"}[request.param], None)
    return loop
