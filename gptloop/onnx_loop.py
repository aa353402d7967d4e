"""OnnxLoop: an exported file in ONNX Runtime.

Knows the graph's inputs and outputs and ONNX Runtime's options; nothing of how the graph computes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gptloop import names
from gptloop.model_file import read_model
from gptloop.request import check_request


class _Bounds:
    def __init__(self, config: dict[str, Any]):
        self.vocab_size: int = config["vocab_size"]
        self.n_positions: int = config["n_positions"]


class OnnxLoop:
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
        self._bounds = _Bounds(json.loads(self.metadata[names.META_CONFIG]))
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self.session = ort.InferenceSession(self.path, options, providers=_providers(device))

    def generate(
        self,
        input_ids: npt.ArrayLike,
        *,
        max_new_tokens: int,
        num_return_sequences: int = 1,
        temperature: float | Sequence[float] = 1.0,
        top_k: int | Sequence[int] = 50,
        seed: int | Sequence[int] = 0,
    ) -> npt.NDArray[np.int64]:
        """Sample continuations of the prompts.

        Args:
            input_ids: Integers [B, P], B prompts of P tokens each, within the vocabulary.
            max_new_tokens: N, at least 1; P + N may not exceed the model's n_positions.
            num_return_sequences: R candidates of each prompt, at least 1.
            temperature: Divides the logits; 0 is greedy. One number, or one per prompt.
            top_k: How many of the most likely tokens are drawn from, equally likely ones by lower id; 0 to V, 0 for the
                whole vocabulary. One number, or one per prompt.
            seed: 0 to 2^63 - 1. One number (prompt i then has seed + i), or one per prompt. The same seed gives the
                same tokens, whatever else is in the batch.

        Returns:
            int64 [B * R, N], new tokens only, the candidates of one prompt adjacent.

        Raises:
            ValueError: Naming the argument, the value and the bound, before any work is done.
        """
        request = check_request(
            self._bounds,
            input_ids,
            max_new_tokens=max_new_tokens,
            num_return_sequences=num_return_sequences,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
        )
        feeds = {
            names.INPUT_IDS: request.input_ids,
            names.MAX_NEW_TOKENS: np.array([request.max_new_tokens]),
            names.NUM_RETURN_SEQUENCES: np.array([request.num_return_sequences]),
            names.TEMPERATURE: request.temperature,
            names.TOP_K: request.top_k,
            names.SEED: request.seed,
        }
        (sequences,) = self.session.run([names.SEQUENCES], feeds)
        return sequences.reshape(-1, request.max_new_tokens)


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
