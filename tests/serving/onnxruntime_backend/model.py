"""A backend of Triton's by the name of its ONNX Runtime backend, which no package registry has.

It does what that one does with a model repository: open a version's model.onnx, compare its inputs with the
configuration's, concatenate the requests that the batcher has put together along the first axis, run once, and split.
An error of the run is the answer of every request of the batch.

Source: https://github.com/triton-inference-server/onnxruntime_backend
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton  # the server's Python backend brings it


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # tiny models
        path = Path(args["model_repository"], args["model_version"], "model.onnx")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        expected = {value["name"]: in_a_batch(value) for value in config["input"]}
        found = {
            value.name: [n if isinstance(n, int) else -1 for n in value.shape] for value in self._session.get_inputs()
        }
        if found != expected:
            raise triton.TritonModelException(f"the configuration expects {expected}, the model provides {found}")
        self._inputs = list(expected)
        self._outputs = [value["name"] for value in config["output"]]

    def execute(self, requests):
        given = [
            {name: array(triton.get_input_tensor_by_name(request, name)) for name in self._inputs}
            for request in requests
        ]
        sizes = [len(each["input_ids"]) for each in given]
        try:
            outputs = self._session.run(
                self._outputs, {name: np.concatenate([each[name] for each in given]) for name in self._inputs}
            )
        except Exception as error:  # ONNX Runtime's have no base in common
            return [triton.InferenceResponse([], triton.TritonError(str(error))) for _ in requests]
        parts = zip(*(np.split(output, np.cumsum(sizes)[:-1]) for output in outputs), strict=True)
        return [triton.InferenceResponse(list(map(tensor, self._outputs, part))) for part in parts]


# The server's backend was built for numpy 1 and misreads arrays of numpy 2, which DLPack hands over without it.
# Its one fault there is that it names a capsule that it has used in its own way, of which Python complains in the log.
def array(tensor):
    return np.from_dlpack(tensor)


def tensor(name, value):
    return triton.Tensor.from_dlpack(name, np.ascontiguousarray(value))


def in_a_batch(value):
    """The shape that a configured input has in a batch."""
    dims = value["reshape"]["shape"] if "reshape" in value else value["dims"]
    return [-1, *map(int, dims)]
