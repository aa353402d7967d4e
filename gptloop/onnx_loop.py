"""OnnxLoop: an exported file in ONNX Runtime.

Knows the graph's inputs and outputs and ONNX Runtime's options; nothing of how the graph computes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop import names
from gptloop.loop import Loop, Outputs
from gptloop.model_file import read_model
from gptloop.request import Request, whole_number


class _Bounds:
    def __init__(self, config: dict[str, Any]):
        self.vocab_size: int = config["vocab_size"]
        self.n_positions: int = config["n_positions"]


class OnnxLoop(Loop):
    """An exported model, ready to generate; may be shared by threads.

    Args:
        path: The .onnx file that `gptloop.export` wrote, its data file beside it.
        device: "cpu", "cuda", or "auto" for CUDA where this ONNX Runtime has it.
        threads: Threads of one product; ONNX Runtime's own choice (one per physical core) unless given.

    Raises:
        FileNotFoundError: If the model file or its data file is missing.
        ValueError: If either is truncated or no gptloop model, or the device or `threads` is not usable.
    """

    def __init__(self, path: str | Path, *, device: str = "auto", threads: int | None = None):
        self.path = Path(path)
        self.metadata = read_model(self.path).metadata
        super().__init__(_Bounds(json.loads(self.metadata[names.META_CONFIG])))
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = whole_number("threads", threads, at_least=1)
        self.session = ort.InferenceSession(self.path, options, providers=_providers(device))

    def _run(self, request: Request) -> Outputs:
        outputs = self.session.run([names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS], feeds(request))
        return Outputs(*(x.reshape(-1, x.shape[-1]) for x in outputs))  # [B, R, N] -> [B * R, N]


def feeds(request: Request) -> dict[str, npt.NDArray[Any]]:
    """The graph's inputs of a checked request, by name, for any runtime."""
    return {
        names.INPUT_IDS: request.input_ids,
        names.ATTENTION_MASK: request.attention_mask,
        names.MAX_NEW_TOKENS: np.array([request.max_new_tokens]),
        names.MIN_NEW_TOKENS: np.array([request.min_new_tokens]),
        names.NUM_RETURN_SEQUENCES: np.array([request.num_return_sequences]),
        names.TEMPERATURE: request.temperature,
        names.TOP_K: request.top_k,
        names.TOP_P: request.top_p,
        names.MIN_P: np.array([request.min_p], dtype=np.float32),
        names.REPETITION_PENALTY: np.array([request.repetition_penalty], dtype=np.float32),
        names.EOS_TOKEN_IDS: np.array(request.eos_token_ids or (-1,)),
        names.PAD_TOKEN_ID: np.array([request.pad_token_id]),
        names.RETURN_LOGPROBS: np.array([request.return_logprobs]),
        names.SEED: request.seed,
    }


def _providers(device: str) -> list[str]:
    available = ort.get_available_providers()
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise ValueError(
            f"device 'cuda' was asked for, but this ONNX Runtime {ort.__version__} offers {', '.join(available)}; "
            "install onnxruntime-gpu"
        )
    if device != "cpu" and "CUDAExecutionProvider" in available:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
