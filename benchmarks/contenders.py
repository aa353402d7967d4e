"""The implementations that are compared, each behind one call: `generate(input_ids, workload, ...) -> tokens`.

Loaded by name from files on disk, the checkpoint's directory or the exported model; what a contender does not need is
not imported, so that its memory and load time are its own. Knows no clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.cases import Workload

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Files:
    """One size on disk.

    Attributes:
        checkpoint: Directory with config.json and safetensors.
        onnx: The model exported from it, in fp32.
        onnx_int8: The same in int8.
        weights: "pretrained" or "random, seed S".
    """

    checkpoint: Path
    onnx: Path
    onnx_int8: Path
    weights: str

    @classmethod
    def of(cls, size: str, folder: Path, checkpoint: Path, weights: str) -> Files:
        """The files of a size whose exported models lie in a folder."""
        return cls(checkpoint, folder / f"{size}.onnx", folder / f"{size}-int8.onnx", weights)

    def to_json(self) -> dict[str, str]:
        """For a process of its own."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: dict[str, str]) -> Files:
        """The inverse of `to_json`."""
        paths = {name: Path(value) for name, value in record.items() if name != "weights"}
        return cls(**paths, weights=record["weights"])


class Contender(Protocol):
    """A loaded implementation."""

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """New tokens int64 [S, max_new_tokens], once the device has finished."""


def load(name: str, files: Files, *, device: str, threads: int) -> Contender:
    """Load a contender; torch's own number of threads is set by whoever owns the process."""
    if name in ("onnx", "onnx_int8"):
        return _Onnx(files.onnx if name == "onnx" else files.onnx_int8, device, threads)
    if name == "hf_generate":
        return _HuggingFace(files.checkpoint, device)
    return _Torch(files.checkpoint, device, tiled=name == "torch_tiled")


def prompt_ids(workload: Workload, vocab_size: int) -> Tokens:
    """Seeded random prompts [B, P]."""
    rng = np.random.default_rng(workload.seed)
    return rng.integers(0, vocab_size, (workload.prompts, workload.prompt_len))


def arguments(workload: Workload, max_new_tokens: int, greedy: bool) -> dict[str, Any]:
    """The workload as gptloop's arguments."""
    return {
        "max_new_tokens": max_new_tokens,
        "num_return_sequences": workload.num_return_sequences,
        "temperature": 0.0 if greedy else workload.temperature,
        "top_k": workload.top_k,
        "seed": workload.seed,
    }


class _Onnx:
    def __init__(self, file: Path, device: str, threads: int):
        from gptloop import OnnxLoop  # noqa: PLC0415

        self._loop = OnnxLoop(file, device=device, threads=threads)

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        return self._loop.generate(ids, **arguments(workload, max_new_tokens, greedy))


class _Torch:
    def __init__(self, checkpoint: Path, device: str, tiled: bool):
        from benchmarks.torch_tiled import TiledTorchLoop  # noqa: PLC0415
        from gptloop import TorchLoop  # noqa: PLC0415

        self._loop = (TiledTorchLoop if tiled else TorchLoop)(checkpoint, device=device)

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        return self._loop.generate(ids, **arguments(workload, max_new_tokens, greedy))


class _HuggingFace:
    """transformers' own generate, with its own random numbers, so that only its greedy tokens can be compared."""

    def __init__(self, checkpoint: Path, device: str):
        from transformers import GPT2LMHeadModel  # noqa: PLC0415

        self._model = GPT2LMHeadModel.from_pretrained(checkpoint).eval()
        self._model.to(device)
        # The same work as everybody: no early stop.
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        import torch  # noqa: PLC0415

        sampling = {"temperature": workload.temperature, "top_k": workload.top_k}
        prompts = torch.from_numpy(ids).to(self._model.device)
        output = self._model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=max_new_tokens,
            do_sample=not greedy,
            num_return_sequences=1 if greedy else workload.num_return_sequences,
            **({} if greedy else sampling),
        )
        return np.asarray(output[:, ids.shape[1] :].cpu())
