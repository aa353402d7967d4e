"""OpenVINO running gptloop's own file: another runtime, the same graph, the same tokens.

Settings, as OpenVINO documents them for one request at a time: the hint LATENCY (one stream that has all threads), and
f32 instead of the bfloat16 that it may choose where the CPU has it, so that tokens can be equal.
"""

import json
from pathlib import Path
from types import SimpleNamespace

from benchmarks.contenders import AbsentError, Files, OfLoop
from gptloop import names
from gptloop.exporter.required import require_inputs
from gptloop.model_file import read_model
from gptloop.runtime.feeds import feeds
from gptloop.runtime.loop import Loop, Outputs
from gptloop.runtime.request import Request


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the exported fp32 file.

    Raises:
        AbsentError: If openvino is not installed, or for a GPU.
    """
    if device != "cpu":
        raise AbsentError("OpenVINO is compared on the CPU only")
    return OfLoop(OpenVinoLoop(files.onnx, threads))


class OpenVinoLoop(Loop):
    """An exported file in OpenVINO's CPU plugin.

    Args:
        path: The .onnx file.
        threads: Threads of one product.

    Raises:
        AbsentError: If openvino is not installed.
    """

    def __init__(self, path: Path, threads: int):
        try:
            import openvino  # noqa: PLC0415  (optional)
        except ImportError as error:
            raise AbsentError("openvino is not installed; the extra `peers` brings it") from error
        super().__init__(SimpleNamespace(**json.loads(read_model(path).metadata[names.META_CONFIG])))
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        copy = path.with_name(f"{path.stem}.required.onnx")
        self._defaults = require_inputs(path, copy)
        self._model = openvino.Core().compile_model(copy, "CPU", options)

    def _run(self, request: Request) -> Outputs:
        outputs = self._model(feeds(request) | self._defaults)
        found = (outputs[name] for name in (names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS))
        return Outputs(*(x.reshape(-1, x.shape[-1]) for x in found))  # [B, R, N] -> [B * R, N]
