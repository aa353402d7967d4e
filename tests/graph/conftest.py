"""Tiny files for calls that go on from a state."""

from __future__ import annotations

import pytest
from calls import Model, OnnxRuntime

from gptloop import export
from gptloop.graph.prompt_attention import CHUNK


@pytest.fixture(scope="module")
def file(tiny_model, tmp_path_factory):
    """A tiny model's file in a precision, and the configuration; more positions than a chunk has."""
    written = {}

    def file_(precision):
        if precision not in written:
            model = tiny_model(n_positions=8 * CHUNK)
            path = tmp_path_factory.mktemp("state") / f"{precision}.onnx"
            written[precision] = export(model, path, precision=precision), model.config
        return written[precision]

    return file_


@pytest.fixture(scope="module")
def open_model(file):
    opened = {}

    def open_(precision, runtime=OnnxRuntime):
        key = (precision, runtime)
        if key not in opened:
            opened[key] = Model(*file(precision), runtime)
        return opened[key]

    return open_


@pytest.fixture(scope="module", params=["fp32", "int8"])
def precision(request):
    return request.param


@pytest.fixture(scope="module")
def model(open_model, precision):
    return open_model(precision)
