"""The weights that a session on the CPU is handed: all of them, as they are, and for as long as it lives."""

from __future__ import annotations

import gc
import threading

import numpy as np
import onnx
import pytest

from gptloop import OnnxLoop, export
from gptloop.model_file import graphs, read_model
from gptloop.runtime import mapped_weights
from gptloop.runtime.feeds import feeds
from gptloop.runtime.mapped_weights import MappedWeights
from gptloop.runtime.request import check_request

IDS = np.random.default_rng(0).integers(0, 97, (2, 5))


class Options:
    """Notes what it is handed."""

    def __init__(self):
        self.values = {}

    def add_initializer(self, name, value):
        self.values[name] = value


def handed(path):
    options = Options()
    MappedWeights(read_model(path)).add_to(options)
    return options.values


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_every_tensor_of_the_data_file_is_handed_over_as_it_is(tiny, tmp_path, precision):
    path = export(tiny.model, tmp_path / "model.onnx", precision=precision)
    external = {
        tensor.name
        for graph in graphs(onnx.load(path, load_external_data=False).graph)
        for tensor in graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    values = handed(path)
    assert values.keys() == external
    repeated = {name for name in external if name.startswith("steps/")}  # those of the Loop's body
    assert bool(repeated) == (precision in ("fp32", "int8"))
    for graph in graphs(onnx.load(path).graph):
        for tensor in graph.initializer:
            if tensor.name in external:
                value = values[tensor.name]
                assert value.element_type() == tensor.data_type
                assert tuple(value.shape()) == tuple(tensor.dims)
                if precision in ("fp32", "int8"):  # the others numpy cannot be given
                    np.testing.assert_array_equal(value.numpy(), onnx.numpy_helper.to_array(tensor))


def test_a_single_file_has_nothing_to_map(tiny, tmp_path):
    path = export(tiny.model, tmp_path / "model.onnx", single_file=True)
    assert handed(path) == {}
    np.testing.assert_array_equal(tokens(OnnxLoop(path, device="cpu")), tokens(tiny.onnx))


def test_a_session_outlives_its_loop(tiny):
    session = OnnxLoop(tiny.path, device="cpu", prepack=False).session
    gc.collect()
    request = check_request(tiny.onnx.bounds, IDS, max_new_tokens=6)
    found = session.run(["sequences"], feeds(request))[0]
    np.testing.assert_array_equal(found[:, 0], tokens(tiny.onnx))


def test_where_pages_cannot_be_dropped_they_are_not(tiny, monkeypatch):
    def drop(*_):
        raise AssertionError("dropped")

    monkeypatch.setattr(mapped_weights, "CAN_DROP", False)
    monkeypatch.setattr(threading.Thread, "start", drop)
    np.testing.assert_array_equal(tokens(OnnxLoop(tiny.path, device="cpu")), tokens(tiny.onnx))


def test_dropping_ends_where_loading_fails(tiny):
    with pytest.raises(RuntimeError, match="no kernels"), MappedWeights(read_model(tiny.path)).dropping_pages():
        raise RuntimeError("no kernels")
    assert not [thread for thread in threading.enumerate() if thread.name == "dropping-pages"]


def tokens(loop):
    return loop.generate(IDS, max_new_tokens=6)
