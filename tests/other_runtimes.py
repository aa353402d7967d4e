"""Loops that run an exported file in onnx's ReferenceEvaluator and in OpenVINO's CPU plugin, on one thread."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import tempfile
import weakref
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


class StackingLoop(ReferenceLoopOperator):
    """As the specification has it: onnx 1.23's joins scan outputs along their first axis, and fails at no trip."""

    op_domain = ""

    def _run(self, M, cond, *args, **kwargs):
        if not (cond and M > 0):
            return (*args, *[np.empty((0, 0), np.float32)] * self.K)
        trips, run_body = [], self._run_body  # the evaluator's, an attribute of the instance
        self._run_body = lambda *inputs, **others: trips.append(None) or run_body(*inputs, **others)
        try:
            results = super()._run(M, cond, *args, **kwargs)
        finally:
            self._run_body = run_body
        scans = (x.reshape(len(trips), -1, *x.shape[1:]) if x.ndim > 2 else x for x in results[len(args) :])
        return (*results[: len(args)], *scans)


StackingLoop.__name__ = "Loop"  # by which the evaluator knows the operator


class ReferenceLoop(Loop):
    """The file in onnx's ReferenceEvaluator."""

    def __init__(self, path: Path, bounds: Bounds):
        super().__init__(bounds)
        operators = [GatherElements, StackingLoop]
        # That a name in a shape stands for one size in all of a run.
        self._evaluator = ReferenceEvaluator(str(path), new_ops=operators, check_shape_annotations=True)

    def _run(self, request: Request) -> Outputs:
        return rows(*self.run(OUTPUTS, feeds(request)))

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self._evaluator.run(outputs, inputs))


class OpenVinoLoop(Loop):
    """The file in OpenVINO's CPU plugin."""

    def __init__(self, path: Path, bounds: Bounds):
        super().__init__(bounds)
        self._path, self._model, self._with_state = path, _opened(path), None

    def _run(self, request: Request) -> Outputs:
        return rows(*self.run(OUTPUTS, feeds(request)))

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        model = self._model
        if names.RETURN_STATE in inputs or names.PAST_SIZES in inputs:
            model, defaults = self._with_state = self._with_state or self._taking_state()
            inputs = defaults | inputs
        found = model(inputs)
        return [found[name].copy() for name in outputs]

    def _taking_state(self):
        """OpenVINO takes an input with a default for a constant."""
        folder = Path(shutil.copytree(self._path.parent, tempfile.mkdtemp(), dirs_exist_ok=True))
        weakref.finalize(self, shutil.rmtree, folder)  # what OpenVINO maps lives as long as the loop
        copy = folder / f"{self._path.stem}.required.onnx"
        defaults = require_inputs(folder / self._path.name, copy)
        return _compiled(copy), defaults


def _compiled(path: Path):
    import openvino  # noqa: PLC0415  (optional)

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(path, "CPU", options)


_opened = functools.cache(_compiled)  # it takes up to 20 s, and a file is opened by several tests


def rows(*outputs_BRN: np.ndarray) -> Outputs:
    return Outputs(*(x.reshape(-1, x.shape[-1]) for x in outputs_BRN))


openvino_is_installed = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed; the test extra brings it"
)
