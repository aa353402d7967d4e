"""OpenVINO running gptloop's own file: another runtime, the same graph.

Settings, as OpenVINO documents them for one request at a time: the hint LATENCY, that is, one stream which has
all threads. Twice:

- `openvino` in f32, so that its tokens can be equal.
- `openvino_default` in the precision that OpenVINO chooses where nobody asks for one: bfloat16 where the CPU has it. It
  then draws from other logits, and its opinion of the baseline's text is compared. Where it chooses f32, it would be
  the first one again, and is absent.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import AbsentError, Files, OfLoop
from gptloop import names
from gptloop.model_file import read_model
from gptloop.runtime.feeds import feeds
from gptloop.runtime.loop import Loop, Outputs
from gptloop.runtime.request import Request

PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the exported fp32 file.

    Raises:
        AbsentError: If openvino is not installed, for a GPU, or if OpenVINO's own choice is f32.
    """
    if device != "cpu":
        raise AbsentError("OpenVINO is compared on the CPU only")
    if name == "openvino":
        return OfLoop(OpenVinoLoop(files.onnx, threads, {"INFERENCE_PRECISION_HINT": "f32"}))
    # What it could choose is known before it has compiled the file.
    capabilities = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    loop = OpenVinoLoop(files.onnx, threads) if {"BF16", "FP16"} & {*capabilities} else None
    if loop is None or loop.precision == "fp32":
        raise AbsentError("OpenVINO's own choice is f32 here, as in `openvino`")
    return InItsOwnPrecision(loop)


def _openvino() -> Any:
    try:
        import openvino  # noqa: PLC0415  (optional)
    except ImportError as error:
        raise AbsentError("openvino is not installed; the extra `peers` brings it") from error
    return openvino


class OpenVinoLoop(Loop):
    """An exported file in OpenVINO's CPU plugin.

    Args:
        path: The .onnx file.
        threads: Threads of one product.
        properties: Of OpenVINO, besides those for one request at a time.

    Attributes:
        precision: In which products are computed, by our names.

    Raises:
        AbsentError: If openvino is not installed.
    """

    def __init__(self, path: Path, threads: int, properties: dict[str, str] | None = None):
        super().__init__(SimpleNamespace(**json.loads(read_model(path).metadata[names.META_CONFIG])))
        self._path = path
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            **(properties or {}),
        }
        self._model = self._compiled(path)
        self.precision = PRECISIONS[self._model.get_property("INFERENCE_PRECISION_HINT").get_type_name()]

    def _compiled(self, path: Path) -> Any:
        return _openvino().Core().compile_model(path, "CPU", self._properties)

    def _run(self, request: Request) -> Outputs:
        outputs = self._model(feeds(request))
        found = (outputs[name] for name in (names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS))
        return Outputs(*(x.reshape(-1, x.shape[-1]) for x in found))  # [B, R, N] -> [B * R, N]

    def score(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """As `gptloop.reference.evaluate.Scorer`, by the scoring graph of the file's tensors, in the same precision."""
        import onnx_ir as ir  # noqa: PLC0415  (who runs the file needs nothing that authors another)

        from gptloop.exporter.exported import read_exported  # noqa: PLC0415
        from gptloop.graph.variants.score import LOGPROBS, MOST_LIKELY, build_scorer  # noqa: PLC0415

        file = self._path.with_name(f"{self._path.stem}.score.onnx")
        if not file.exists():
            ir.save(build_scorer(*read_exported(self._path)), file)
        outputs = self._compiled(file)({names.INPUT_IDS: ids[None]})
        return outputs[LOGPROBS][0].astype(np.float64), outputs[MOST_LIKELY][0]


class InItsOwnPrecision(OfLoop):
    """An OpenVinoLoop as a contender whose parity is its quality."""

    def __init__(self, loop: OpenVinoLoop):
        super().__init__(loop)
        self.precision = loop.precision
        self.score = loop.score
