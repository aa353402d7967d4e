"""A call captured as a CUDA graph and replayed: one launch for all of its kernels.

ONNX Runtime captures at a run with its outputs and inputs bound to fixed addresses, one graph for each set of shapes; a
later run with the same shapes copies the inputs to those addresses and replays. Works for models without control flow
and without copies between devices inside, as gptloop.graph.variants.lean's "unrolled" is meant to be. What has been
launched runs to its end: nothing can stop a replay.

Knows ONNX Runtime's bindings; nothing of what is computed.

Source: ONNX Runtime's documentation of the CUDA execution provider, "Using CUDA Graphs"; core/providers/cuda/
cuda_graph.cc, which forgets a graph only with all others.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt
import onnxruntime as ort

OPTIONS = {"enable_cuda_graph": "1"}
# Captures are not replaced: on CUDA, ONNX Runtime keeps each until the session ends (gpt2 with 36 tokens: about 14,000
# nodes), so that shapes in turn would fill the memory, and capture in every call. Who captures has a few shapes.
MOST_CAPTURES = 8
UNCAPTURED = "-1"  # the graph id with which ONNX Runtime runs as without `OPTIONS`


class _Bound(NamedTuple):
    """A run's fixed addresses."""

    binding: Any
    buffers: dict[str, ort.OrtValue]  # of the inputs, by name, those on the CPU excepted
    result: ort.OrtValue
    options: ort.RunOptions


class CapturedCalls:
    """The captured graphs of a session, one for each set of input shapes and host values.

    The first `MOST_CAPTURES` of them are captured; others run as they are.

    Args:
        session: Opened with `OPTIONS` on CUDA.
        on_host: Names of inputs that stay on the CPU (sizes): their values are part of what is captured.
        device: Where the other inputs and the output live; "cpu" runs the same code without a graph.
    """

    def __init__(self, session: ort.InferenceSession, on_host: tuple[str, ...], device: str = "cuda"):
        self._session, self._on_host, self._device = session, on_host, device
        self._captured: dict[tuple[Any, ...], _Bound] = {}
        self._graph_ids = itertools.count(1)  # each given once: a run that failed may have left a graph
        self._lock = threading.Lock()  # the buffers are shared by all calls

    def run(self, feeds: Mapping[str, npt.NDArray[Any]], output: str, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run once.

        Args:
            feeds: Inputs by name.
            output: The output's name.
            like: An array of its shape and dtype.
        """
        key = tuple((name, x.shape, x.tobytes() if name in self._on_host else b"") for name, x in feeds.items())
        with self._lock:
            bound = self._captured.get(key) or self._bind(feeds, output, like)
            for name, buffer in bound.buffers.items():
                buffer.update_inplace(feeds[name])
            self._session.run_with_iobinding(bound.binding, bound.options)
            if len(self._captured) < MOST_CAPTURES:
                self._captured[key] = bound
            return bound.result.numpy()

    def _bind(self, feeds: Mapping[str, npt.NDArray[Any]], output: str, like: npt.NDArray[Any]) -> _Bound:
        binding, buffers = self._session.io_binding(), {}
        for name, value in feeds.items():
            device = "cpu" if name in self._on_host else self._device
            bound = ort.OrtValue.ortvalue_from_numpy(value.copy(), device, 0)
            binding.bind_ortvalue_input(name, bound)
            if name not in self._on_host:
                buffers[name] = bound
        result = ort.OrtValue.ortvalue_from_numpy(like.copy(), self._device, 0)
        binding.bind_ortvalue_output(output, result)
        options = ort.RunOptions()
        graph_id = str(next(self._graph_ids)) if len(self._captured) < MOST_CAPTURES else UNCAPTURED
        options.add_run_config_entry("gpu_graph_id", graph_id)
        return _Bound(binding, buffers, result, options)
