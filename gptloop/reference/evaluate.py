"""How much a precision costs in quality: perplexity of a text, and how often the most likely token stays the same.

Both models are scored by graphs of their own tensors (gptloop.graph.variants.score), teacher-forced, in ONNX Runtime.
Knows files and checkpoints; not the command line.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from gptloop import names
from gptloop.checkpoint import Checkpoint, Model, open_checkpoint, random_checkpoint
from gptloop.exporter.exported import Exported, read_exported
from gptloop.exporter.tensors import stored_tensors
from gptloop.graph.variants.score import LOGPROBS, MOST_LIKELY, build_scorer
from gptloop.model_file import read_model
from gptloop.runtime.session import open_session
from gptloop.values import shown

# Of ids int64 [L]: the log-probability, float64 [L - 1], of each id but the first given those before it, and the most
# likely id there, int64 [L - 1].
Scores = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]
Scorer = Callable[[npt.NDArray[np.int64]], Scores]


class SourceError(ValueError):
    """The checkpoint that a file was made from cannot be opened."""


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

    def to_dict(self) -> dict[str, float]:
        """All of it, by name."""
        return {**asdict(self), "perplexity_change": self.perplexity_change}


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
        ValueError: If there are fewer than 2 ids, one is beyond the vocabulary, the window is above the model's
            n_positions, the file cannot be read, its configuration is not the source's, or the device is not usable.
        FileNotFoundError: If the file, its data file or the source does not exist.
    """
    with tempfile.TemporaryDirectory() as folder:
        exported = read_exported(Path(path))
        checkpoint = open_checkpoint(source)
        _check_source(path, exported, checkpoint)
        session = _session(*exported, Path(folder) / "file.onnx", device)
        return compare(lambda piece: _score(session, piece), checkpoint, ids, window, device)


def compare(
    score: Scorer, source: Model | Checkpoint, ids: npt.NDArray[np.int64], window: int = 0, device: str = "cpu"
) -> Evaluation:
    """Score a text with whatever can, and with the source of its weights; as `evaluate`."""
    checkpoint = open_checkpoint(source)
    n_positions = checkpoint.config.n_positions
    if len(ids) < 2:
        raise ValueError(f"a text to be scored needs at least 2 tokens, got {len(ids)}")
    if not 2 <= (window or n_positions) <= n_positions:
        raise ValueError(f"window must be within 2..{n_positions} (n_positions), got {window}")
    if not 0 <= ids.min() <= ids.max() < checkpoint.config.vocab_size:
        raise ValueError(
            f"token ids must be within 0..{checkpoint.config.vocab_size - 1}, got {ids.min()}..{ids.max()}"
        )
    windows = list(_windows(ids, window or n_positions))
    found = [score(piece) for piece in windows]
    with tempfile.TemporaryDirectory() as folder:
        session = _checkpoint_scorer(checkpoint, Path(folder) / "source.onnx", device)
        expected = [_score(session, piece) for piece in windows]
    logprobs, likely = (np.concatenate(parts) for parts in zip(*found, strict=True))
    source_logprobs, source_likely = (np.concatenate(parts) for parts in zip(*expected, strict=True))
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


def _score(session: ort.InferenceSession, piece: npt.NDArray[np.int64]) -> Scores:
    logprobs, likely = session.run([LOGPROBS, MOST_LIKELY], {names.INPUT_IDS: piece[None]})
    return logprobs[0].astype(np.float64), likely[0]


def _check_source(path: str | Path, exported: Exported, checkpoint: Checkpoint) -> None:
    others = _facts(checkpoint.config, checkpoint.tensors)
    for field, own in _facts(exported.config, exported.tensors).items():
        if own != others[field]:
            raise ValueError(
                f"{path} was not made from {checkpoint.source}: {field} is {own}, the source's is {others[field]}"
            )


def _facts(config: Any, tensors: Collection[str]) -> dict[str, Any]:
    """What a file has in common with its source."""
    fields = ("n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "activation_function")
    return {
        **{field: getattr(config, field) for field in fields},
        "n_inner": getattr(config, "n_inner", None) or 4 * config.n_embd,
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }


def _checkpoint_scorer(checkpoint: Checkpoint, scorer: Path, device: str) -> ort.InferenceSession:
    return _session(checkpoint.config, stored_tensors(checkpoint, "fp32"), "fp32", scorer, device)


def _session(
    config: Any, tensors: Mapping[str, Any], precision: str, scorer: Path, device: str
) -> ort.InferenceSession:
    ir.save(build_scorer(config, tensors, precision), scorer, external_data=f"{scorer.stem}.data")
    return open_session(scorer, device=device)


def source_of(path: str | Path) -> Checkpoint:
    """The checkpoint that an exported file says it was made from.

    Raises:
        ValueError: As `gptloop.model_file.read_model`; likewise FileNotFoundError.
        SourceError: If the checkpoint cannot be opened. A relative path counts from the present folder.
    """
    metadata = read_model(Path(path)).metadata
    source, weights = metadata[names.META_SOURCE], metadata[names.META_WEIGHTS]
    if found := re.fullmatch(r"random, seed (\d+)", weights):
        return random_checkpoint(source, int(found[1]))
    try:
        return open_checkpoint(source)
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} was made from {shown(source)}, which cannot be opened: {error}") from error


def render(evaluation: Evaluation) -> str:
    """For people, a line for each number."""
    return f"""\
tokens             {evaluation.tokens:,}
perplexity         {evaluation.perplexity:.4f}
source perplexity  {evaluation.source_perplexity:.4f}
change             {evaluation.perplexity_change:+.2%}
agreement          {evaluation.agreement:.2%}"""
