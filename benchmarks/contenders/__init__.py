"""The implementations that are compared, each behind one call: `generate(input_ids, workload, ...) -> tokens`.

One module each, imported by name when its contender is loaded from files on disk; what a contender does not need is not
imported, so that its memory and load time are its own. Knows no clock.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.workloads import Workload

Tokens = npt.NDArray[np.int64]


class AbsentError(RuntimeError):
    """A contender cannot run here; the reason in one line."""


@dataclass(frozen=True)
class Kind:
    """What the suite knows of a contender before it is loaded.

    Attributes:
        module: Where it lives in this package.
        precision: Of its products; that of the case where it is "fp32". "chosen" where it chooses one itself, and says
            which once it is loaded.
        parity: What is compared with the baseline before it is timed: its tokens while "sampling"; its "greedy" tokens,
            where it draws random numbers of its own; or its "quality", where it computes in a lower precision.
        own_numbers: Whether it draws random numbers of its own, so that no seed makes its rows end where others' do.
    """

    module: str
    precision: str = "fp32"
    parity: Literal["sampling", "greedy", "quality"] = "sampling"
    own_numbers: bool = False


KINDS = {
    "torch": Kind("torch_loop"),
    "torch_tiled": Kind("torch_tiled"),
    "torch_int8": Kind("torch_int8", precision="int8", parity="quality"),
    "torch_bf16": Kind("torch_bf16", precision="bf16", parity="quality"),
    "torch_compiled": Kind("torch_compiled", parity="greedy", own_numbers=True),
    "hf_generate": Kind("hf_generate", parity="greedy", own_numbers=True),
    "onnx": Kind("onnx_loop"),
    "onnx_int8": Kind("onnx_loop", precision="int8", parity="quality"),
    "onnx_step": Kind("onnx_step"),
    "onnx_lean": Kind("onnx_flavor"),
    "onnx_fixed": Kind("onnx_flavor"),
    "onnx_fused": Kind("onnx_flavor"),
    "onnx_unrolled": Kind("onnx_unrolled"),
    "ctranslate2": Kind("ctranslate2_generator", parity="greedy", own_numbers=True),
    "ctranslate2_int8": Kind("ctranslate2_generator", precision="int8", parity="quality", own_numbers=True),
    "openvino": Kind("openvino_loop"),
    "openvino_default": Kind("openvino_loop", precision="chosen", parity="quality"),
    "jax": Kind("jax_loop"),
}


@dataclass(frozen=True)
class Files:
    """One size on disk.

    Attributes:
        checkpoint: Directory with config.json and safetensors.
        onnx: The model exported from it, in fp32.
        onnx_int8: The same in int8.
        weights: "pretrained" or "random, seed S".
        precision: Of the contenders that have none of their own.
    """

    checkpoint: Path
    onnx: Path
    onnx_int8: Path
    weights: str
    precision: str = "fp32"

    @classmethod
    def of(cls, size: str, folder: Path, checkpoint: Path, weights: str) -> Files:
        """The files of a size whose exported models lie in a folder."""
        return cls(checkpoint, folder / f"{size}.onnx", folder / f"{size}-int8.onnx", weights)

    def precision_of(self, name: str) -> str:
        """That in which a contender runs on these files."""
        own = KINDS[name].precision
        return self.precision if own == "fp32" else own

    def exported(self, precision: str) -> Path:
        """The model exported in a precision."""
        if precision in ("fp32", "int8"):
            return self.onnx if precision == "fp32" else self.onnx_int8
        return self.flavored(f"{precision}")

    def flavored(self, words: str) -> Path:
        """A model exported in another way than the usual two, by the words that tell it apart."""
        return self.onnx.with_name(f"{self.onnx.stem}-{words}.onnx")

    def to_json(self) -> dict[str, str]:
        """For a process of its own."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: dict[str, str]) -> Files:
        """The inverse of `to_json`."""
        texts = ("weights", "precision")
        paths = {name: Path(value) for name, value in record.items() if name not in texts}
        return cls(**paths, weights=record["weights"], precision=record["precision"])


class Contender(Protocol):
    """A loaded implementation.

    One whose parity is its quality may have `score`, a `gptloop.reference.evaluate.Scorer`; without it, the exported
    file of its precision is scored. One that chooses its precision has it as `precision`.
    """

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """New tokens int64 [S, max_new_tokens], once the device has finished; fewer where all rows ended earlier.

        Ragged prompts are padded on the left, as `prompt_mask` tells.

        Greedy tokens of contenders whose parity is greedy: [B, max_new_tokens], one candidate of each prompt.
        """


def prepare(name: str, files: Files) -> None:
    """Make the files that only this contender reads, where they are missing, so that loading it does not.

    Raises:
        AbsentError: If it cannot run here.
    """
    module = _module(name)
    if hasattr(module, "prepare"):
        module.prepare(name, files)


def load(name: str, files: Files, *, device: str, threads: int) -> Contender:
    """Load a contender; torch's own number of threads is set by whoever owns the process.

    Raises:
        AbsentError: If it cannot run here.
    """
    contender: Contender = _module(name).load(name, files, device=device, threads=threads)
    return contender


def _module(name: str) -> Any:
    return importlib.import_module(f"benchmarks.contenders.{KINDS[name].module}")


def prompt_ids(workload: Workload, vocab_size: int) -> Tokens:
    """Seeded random prompts [B, P], 0 in the place of padding."""
    rng = np.random.default_rng(workload.seed)
    ids = rng.integers(0, vocab_size, (workload.prompts, workload.prompt_len))
    mask = prompt_mask(workload)
    return ids if mask is None else ids * mask


def prompt_mask(workload: Workload) -> Tokens | None:
    """Where a ragged batch has tokens: [B, P], 1 for a token, 0 for padding on the left; None where none is padded.

    Lengths lie evenly between the shortest and the longest, in a seeded order.
    """
    if not workload.shortest_prompt:
        return None
    B, P = workload.prompts, workload.prompt_len
    lengths = np.linspace(workload.shortest_prompt, P, B).round().astype(np.int64)
    lengths = np.random.default_rng(workload.seed).permutation(lengths)
    return (np.arange(P) >= P - lengths[:, None]).astype(np.int64)


def arguments(workload: Workload, max_new_tokens: int, greedy: bool) -> dict[str, Any]:
    """The workload as gptloop's arguments, which JSON can hold."""
    mask = prompt_mask(workload)
    return {
        "max_new_tokens": max_new_tokens,
        "num_return_sequences": workload.num_return_sequences,
        "temperature": 0.0 if greedy else workload.temperature,
        "top_k": workload.top_k,
        "seed": workload.seed,
        **({} if mask is None else {"attention_mask": mask.tolist()}),
        **({"eos_token_id": list(workload.eos_token_ids)} if workload.eos_token_ids else {}),
    }


class OfLoop:
    """A contender that is one of gptloop's loops, or has their call.

    Args:
        loop: With a method `generate` that takes `gptloop.runtime.loop.Loop.generate`'s arguments.
    """

    def __init__(self, loop: Any):
        self.loop = loop

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `Contender`."""
        tokens: Tokens = self.loop.generate(ids, **arguments(workload, max_new_tokens, greedy))
        return tokens
