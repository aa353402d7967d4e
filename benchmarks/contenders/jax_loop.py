"""JAX: the whole loop in one compiled program, the truest peer, for it is what the graph is, from another compiler.

Settings:

- `jax.jit` over prefill, `lax.while_loop` and sampling; compiled in the warm-up, once for each number of new tokens.
- Weights are arguments of the program: closed over, as constants, they made it no faster at one row and at 8 prompts of
  gpt2 (1.2 s and 3.2 s either way), but three times as long to compile.
- One prompt, many candidates: attention in two parts, as in the graph. A KV cache of fixed length, written in place.
- XLA's products as they are: its flags for XNNPACK and oneDNN made them no faster (64 rows times [768, 3072] took
  3.9 ms without, 3.9 and 4.5 ms with them, on two cores of an AMD EPYC).
- It draws by the same rule with the same Threefry numbers, so that its tokens are compared one by one.
- In a process of its own, without torch, whose number of threads XLA reads from the environment when it starts.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.contenders import AbsentError, Files, Tokens, prompt_mask
from benchmarks.contenders.apart import Apart
from benchmarks.workloads import Workload


class Config(NamedTuple):
    """What the program reads of a GPT2Config."""

    n_layer: int
    n_head: int
    activation_function: str
    layer_norm_epsilon: float
    query_scales: tuple[float, ...]


def prepare(name: str, files: Files) -> None:
    """Write the checkpoint's tensors for numpy.

    Raises:
        AbsentError: If jax is not installed.
    """
    if importlib.util.find_spec("jax") is None:
        raise AbsentError("jax is not installed; the extra `peers` brings it")
    if not _path(files).exists():
        from gptloop.checkpoint import open_checkpoint  # noqa: PLC0415  (not in the process of its own)

        tensors = open_checkpoint(files.checkpoint).tensors
        arrays: dict[str, Any] = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        np.savez(_path(files), **arrays)


def load(name: str, files: Files, *, device: str, threads: int) -> Apart:
    """From the written tensors, in a process of its own.

    Raises:
        AbsentError: For a GPU.
    """
    from gptloop.checkpoint import open_checkpoint  # noqa: PLC0415  (not in the process of its own)
    from gptloop.checkpoint.config import query_scale  # noqa: PLC0415

    if device != "cpu":
        raise AbsentError("JAX is compared on the CPU only")
    found = open_checkpoint(files.checkpoint).config
    scales = tuple(query_scale(found, layer) for layer in range(found.n_layer))
    config = Config(found.n_layer, found.n_head, found.activation_function, found.layer_norm_epsilon, scales)
    return Apart(JaxLoop, _path(files), config, threads, huge_pages=True)


def _path(files: Files) -> Path:
    return files.onnx.with_suffix(".jax.npz")


class JaxLoop:
    """GPT-2 in JAX on the CPU.

    Args:
        path: The tensors, as `prepare` wrote them.
        config: The model's.
        threads: Threads of one product.
    """

    def __init__(self, path: Path, config: Config, threads: int):
        os.environ |= {"NPROC": str(threads), "JAX_PLATFORMS": "cpu"}
        from benchmarks.contenders.jax_program import Program, program  # noqa: PLC0415  (optional, and not before)

        with np.load(path) as tensors:
            self._program: Program = program(config, tensors)

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `benchmarks.contenders.Contender`."""
        seeds = np.uint64(workload.seed) + np.arange(len(ids), dtype=np.uint64)
        mask = prompt_mask(workload)
        arguments: dict[str, Any] = {
            "ids_BP": ids.astype(np.int32),
            "mask_BP": None if mask is None else mask.astype(bool),
            "key_B2": keys(seeds),
            "temperature": np.float32(workload.temperature),
            "eos_E": np.array(workload.eos_token_ids, np.int32),
        }
        top_k = 1 if greedy else workload.top_k
        tokens_SN, length = self._program(
            **arguments, R=workload.num_return_sequences, N=max_new_tokens, top_k=top_k, pad=_pad(workload)
        )
        return np.asarray(tokens_SN)[:, : int(length)].astype(np.int64)


def keys(seeds: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
    """Threefry's key for each prompt's seed: [B, 2], its low 32 bits, then its high ones."""
    return np.stack([seeds & np.uint64(0xFFFFFFFF), seeds >> np.uint64(32)], 1).astype(np.uint32)


def _pad(workload: Workload) -> int:
    """What follows a row's end, as in `gptloop.runtime.request`."""
    return workload.eos_token_ids[0] if workload.eos_token_ids else 0
