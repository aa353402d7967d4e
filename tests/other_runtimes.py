"""Loops that run an exported file in onnx's ReferenceEvaluator and in OpenVINO's CPU plugin, on one thread."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_loop import Loop as ReferenceLoopOperator

from gptloop import names
from gptloop.exporter.required import require_inputs
from gptloop.runtime.feeds import feeds
from gptloop.runtime.loop import Loop, Outputs
from gptloop.runtime.request import Bounds, Request

OUTPUTS = [names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS]


class GatherElements(OpRun):
    """As the specification has it: onnx 1.23's fails on more than 63 columns (mended by onnx pull request 8444)."""

    op_domain = ""

    def _run(self, data, indices, axis=None):
        return (np.take_along_axis(data, indices, axis),)


class LoopOfNoTrips(ReferenceLoopOperator):
    """That of onnx 1.23 cannot stack the scan outputs of no trip."""

    op_domain = ""

    def _run(self, M, cond, *args, **kwargs):
        if cond and M > 0:
            return super()._run(M, cond, *args, **kwargs)
        return (*args, *[np.empty((0, 0), np.float32)] * self.K)


LoopOfNoTrips.__name__ = "Loop"  # by which the evaluator knows the operator


class ReferenceLoop(Loop):
    """The file in onnx's ReferenceEvaluator."""

    def __init__(self, path: Path, bounds: Bounds):
        super().__init__(bounds)
        self._evaluator = ReferenceEvaluator(str(path), new_ops=[GatherElements, LoopOfNoTrips])

    def _run(self, request: Request) -> Outputs:
        return rows(*self.run(OUTPUTS, feeds(request)))

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self._evaluator.run(outputs, inputs))


class OpenVinoLoop(Loop):
    """The file in OpenVINO's CPU plugin."""

    def __init__(self, path: Path, bounds: Bounds):
        import openvino  # noqa: PLC0415  (optional)

        super().__init__(bounds)
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self._folder = tempfile.TemporaryDirectory()  # what OpenVINO maps lives as long as the loop
        folder = Path(shutil.copytree(path.parent, self._folder.name, dirs_exist_ok=True))
        copy = folder / f"{path.stem}.required.onnx"
        self._defaults = require_inputs(folder / path.name, copy)
        self._model = openvino.Core().compile_model(copy, "CPU", options)

    def _run(self, request: Request) -> Outputs:
        return rows(*self.run(OUTPUTS, feeds(request)))

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = self._model(self._defaults | inputs)
        return [found[name].copy() for name in outputs]


def rows(*outputs_BRN: np.ndarray) -> Outputs:
    return Outputs(*(x.reshape(-1, x.shape[-1]) for x in outputs_BRN))


openvino_is_installed = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed; the test extra brings it"
)
