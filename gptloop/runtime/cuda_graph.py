"""A call captured as a CUDA graph and replayed: one launch for all of its kernels.

ONNX Runtime captures at a run with its outputs and inputs bound to fixed addresses, one graph for each set of shapes; a
later run with the same shapes copies the inputs to those addresses and replays. Works for models without control flow
and without copies between devices inside, as gptloop.graph.variants.lean's "unrolled" is meant to be.

Knows ONNX Runtime's bindings; nothing of what is computed.

Source: ONNX Runtime's documentation of the CUDA execution provider, "Using CUDA Graphs".
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnxruntime as ort

OPTIONS = {"enable_cuda_graph": "1"}


class CapturedCalls:
    """The captured graphs of a session, one for each set of input shapes and host values.

    Args:
        session: Opened with `OPTIONS` on CUDA.
        on_host: Names of inputs that stay on the CPU (sizes): their values are part of what is captured.
        device: Where the other inputs and the output live; "cpu" runs the same code without a graph.
    """

    def __init__(self, session: ort.InferenceSession, on_host: tuple[str, ...], device: str = "cuda"):
        self._session, self._on_host, self._device = session, on_host, device
        self._captured: dict[tuple[Any, ...], tuple[Any, dict[str, ort.OrtValue], ort.OrtValue, ort.RunOptions]] = {}
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
            if key not in self._captured:
                self._captured[key] = self._bind(feeds, output, like)
            binding, buffers, result, options = self._captured[key]
            for name, buffer in buffers.items():
                buffer.update_inplace(feeds[name])
            self._session.run_with_iobinding(binding, options)
            return result.numpy()

    def _bind(self, feeds: Mapping[str, npt.NDArray[Any]], output: str, like: npt.NDArray[Any]) -> Any:
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
        options.add_run_config_entry("gpu_graph_id", str(len(self._captured) + 1))
        return binding, buffers, result, options
