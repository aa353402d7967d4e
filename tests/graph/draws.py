"""The draw as a graph of its own, in three runtimes, and the PyTorch loop's: logits and settings in, token ids out.

With it a vocabulary of GPT-2's size costs no model. Knows both halves of the rule, and no test.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
from idle import idle_processing
from onnx.reference import ReferenceEvaluator
from onnxscript import GraphBuilder
from other_runtimes import GatherElements
from transformers import TemperatureLogitsWarper, TopKLogitsWarper

from gptloop.graph import sampling
from gptloop.graph.logits import Logits
from gptloop.graph.model import IR_VERSION, OPSET
from gptloop.reference.sampling import Sampler
from gptloop.runtime.request import Request
from gptloop.runtime.token_ids import NO_SEQUENCES

RUNTIMES = ["onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else []), "reference"]
LARGEST_UNIFORM = 1 - 2.0**-24
_F32, _I64 = ir.DataType.FLOAT, ir.DataType.INT64
_INPUTS: dict[str, tuple[ir.DataType, list[Any]]] = {
    "logits": (_F32, ["S", "V"]),
    "uniform": (_F32, ["S", 1]),
    "temperature": (_F32, ["S"]),
    "top_k": (_I64, ["S"]),
    "top_p": (_F32, ["S"]),
    "min_p": (_F32, ["S"]),
}


class DrawGraph:
    """gptloop.graph.sampling.sample with nothing before or after it.

    Args:
        folder: Where the file may lie that OpenVINO reads.
    """

    def __init__(self, folder: Path):
        graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="draw")
        builder = GraphBuilder(graph)
        op = builder.op
        given = {name: builder.input(name, dtype, shape) for name, (dtype, shape) in _INPUTS.items()}
        never = op.Cast(op.Constant(value_int=0), to=ir.DataType.BOOL)
        settings = sampling.settings(
            op,
            **{name: given[name] for name in ("temperature", "top_k", "top_p", "min_p")},
            return_logprobs=op.Unsqueeze(never, [0]),
            to_rows=lambda per_row: op.Unsqueeze(per_row, [1]),
        )
        token = sampling.sample(op, Logits(given["logits"]), given["uniform"], settings, idle_processing(op)).token
        token.dtype = _I64
        builder.add_output(token, "token")
        self._path = folder / "draw.onnx"
        self._model = ir.Model(graph, ir_version=IR_VERSION)
        ir.save(self._model, self._path)

    def draw(self, runtime: str, logits: np.ndarray, uniform: np.ndarray, **settings: Any) -> np.ndarray:
        """A token per row; settings are one for all rows or one each."""
        rows = len(logits)
        given = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **settings}
        feeds = {"logits": logits.astype(np.float32), "uniform": np.float32(uniform).reshape(rows, 1)}
        for name, value in given.items():
            dtype = np.int64 if name == "top_k" else np.float32
            feeds[name] = np.broadcast_to(np.asarray(value, dtype), rows).copy()
        return getattr(self, f"_{runtime}")(feeds)

    def _onnxruntime(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        return self._session.run(None, feeds)[0]

    def _openvino(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        return self._compiled(feeds)[0]

    def _reference(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        return self._evaluator.run(None, feeds)[0]

    @functools.cached_property
    def _session(self) -> ort.InferenceSession:
        return ort.InferenceSession(self._path, providers=["CPUExecutionProvider"])

    @functools.cached_property
    def _compiled(self) -> Any:
        import openvino  # noqa: PLC0415  (optional)

        return openvino.Core().compile_model(self._path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    @functools.cached_property
    def _evaluator(self) -> ReferenceEvaluator:
        return ReferenceEvaluator(ir.to_proto(self._model), new_ops=[GatherElements])


def torch_sampler(rows: int, **settings: Any) -> Sampler:
    """The PyTorch loop's, of one token per row; settings are one for all rows or one each."""
    given = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **settings}
    request = Request(
        input_ids=np.zeros((rows, 1), np.int64),
        attention_mask=np.ones((rows, 1), np.int64),
        max_new_tokens=1,
        min_new_tokens=0,
        num_return_sequences=1,
        first_candidate=0,
        **{
            name: np.broadcast_to(np.asarray(given[name], np.int64 if name == "top_k" else np.float32), rows).copy()
            for name in ("temperature", "top_k", "top_p", "min_p")
        },
        repetition_penalty=np.ones(rows, np.float32),
        no_repeat_ngram_size=np.zeros(rows, np.int64),
        biased_sequences=NO_SEQUENCES,
        biases=np.zeros(1, np.float32),
        eos_token_ids=(),
        stop_sequences=NO_SEQUENCES,
        pad_token_id=0,
        return_logprobs=False,
        seed=np.arange(rows),
    )
    return Sampler(request, torch.device("cpu"))


def torch_draw(logits: np.ndarray, uniform: np.ndarray, **settings: Any) -> np.ndarray:
    """As `DrawGraph.draw`."""
    sampler = torch_sampler(len(logits), **settings)
    sampler._uniforms = torch.from_numpy(np.float32(uniform).reshape(-1, 1, 1).copy())
    return sampler.draw(torch.from_numpy(logits.astype(np.float32)), 0).numpy()


def torch_probabilities(logits: np.ndarray, **settings: Any) -> np.ndarray:
    """What the PyTorch loop draws from, over the whole vocabulary."""
    ids, probs = torch_sampler(len(logits), **settings).kept(torch.from_numpy(logits.astype(np.float32)))
    return (probs if ids is None else torch.zeros(logits.shape).scatter(1, ids, probs)).numpy()


def hugging_face_probabilities(logits: np.ndarray, temperature: float, top_k: int) -> np.ndarray:
    """float64 [rows, V], by the processors that transformers' generate would use."""
    scores = torch.from_numpy(logits).double()
    scores = TemperatureLogitsWarper(temperature)(None, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    return scores.softmax(-1).numpy()
