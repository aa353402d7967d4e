"""How much a precision costs in quality: perplexity of a text, and how often the most likely token stays the same.

Both models are scored by graphs of their own tensors (gptloop.graph.score), teacher-forced, in ONNX Runtime. Knows
files and checkpoints; not where the text's ids come from.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from gptloop import names
from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.exporter import stored_tensors
from gptloop.graph.score import LOGPROBS, MOST_LIKELY, build_scorer
from gptloop.model_file import read_model
from gptloop.session import open_session


@dataclass(frozen=True)
class Evaluation:
    """A file against the float32 checkpoint that it was made from.

    Attributes:
        tokens: Tokens that were predicted.
        perplexity: The file's.
        source_perplexity: The checkpoint's.
        agreement: Share of the tokens at which both find the same one most likely.
    """

    tokens: int
    perplexity: float
    source_perplexity: float
    agreement: float

    @property
    def perplexity_change(self) -> float:
        """Relative: 0.01 is one percent worse."""
        return self.perplexity / self.source_perplexity - 1


def evaluate(
    path: str | Path, source: Model | Checkpoint, ids: npt.NDArray[np.int64], window: int = 0, device: str = "cpu"
) -> Evaluation:
    """Score a text with an exported file and with its source.

    Args:
        path: The exported file.
        source: The checkpoint it was made from.
        ids: int64 [L], the text, at least 2 tokens.
        window: Tokens scored at a time, each window without memory of the one before; the model's n_positions unless
            given.
        device: "cpu", "cuda" or "auto", for both: a precision may cost less on a device that computes it in a higher
            one, as ONNX Runtime's CPU does with fp16.

    Raises:
        ValueError: If there are fewer than 2 ids, the window is above the model's n_positions, or the device is not
            usable.
    """
    with tempfile.TemporaryDirectory() as folder:
        file, checkpoint = Path(path), open_checkpoint(source)
        n_positions = checkpoint.config.n_positions
        if len(ids) < 2:
            raise ValueError(f"a text to be scored needs at least 2 tokens, got {len(ids)}")
        if not 2 <= (window or n_positions) <= n_positions:
            raise ValueError(f"window must be within 2..{n_positions} (n_positions), got {window}")
        windows = list(_windows(ids, window or n_positions))
        found = _score(_file_scorer(file, Path(folder) / "file.onnx", device), windows)
        expected = _score(_checkpoint_scorer(checkpoint, Path(folder) / "source.onnx", device), windows)
    (logprobs, likely), (source_logprobs, source_likely) = found, expected
    return Evaluation(
        tokens=len(logprobs),
        perplexity=math.exp(-logprobs.mean()),
        source_perplexity=math.exp(-source_logprobs.mean()),
        agreement=float((likely == source_likely).mean()),
    )


def _windows(ids: npt.NDArray[np.int64], window: int) -> Iterator[npt.NDArray[np.int64]]:
    """Pieces that overlap by one token, so that each token but the first is predicted once."""
    for start in range(0, len(ids) - 1, window - 1):
        yield ids[start : start + window]


def _score(session: ort.InferenceSession, windows: list[npt.NDArray[np.int64]]) -> tuple[Any, Any]:
    results = [session.run([LOGPROBS, MOST_LIKELY], {names.INPUT_IDS: piece[None]}) for piece in windows]
    logprobs, likely = zip(*results, strict=True)
    return np.concatenate(logprobs, 1)[0].astype(np.float64), np.concatenate(likely, 1)[0]


def _file_scorer(path: Path, scorer: Path, device: str) -> ort.InferenceSession:
    metadata = read_model(path).metadata
    config = SimpleNamespace(**json.loads(metadata[names.META_CONFIG]))
    initializers = ir.load(path).graph.initializers
    tensors = {name: value.const_value for name, value in initializers.items() if not name.startswith("const_")}
    return _session(config, tensors, metadata[names.META_PRECISION], scorer, device)


def _checkpoint_scorer(checkpoint: Checkpoint, scorer: Path, device: str) -> ort.InferenceSession:
    return _session(checkpoint.config, stored_tensors(checkpoint, "fp32"), "fp32", scorer, device)


def _session(
    config: Any, tensors: Mapping[str, Any], precision: str, scorer: Path, device: str
) -> ort.InferenceSession:
    ir.save(build_scorer(config, tensors, precision), scorer, external_data=f"{scorer.stem}.data")
    return open_session(scorer, device=device)
