"""transformers' generate with its static KV cache and torch.compile.

As transformers documents it: `cache_implementation="static"`, upon which it compiles the decode step itself (the
prefill stays eager). It does so by itself on accelerators only; on the CPU it must be told to. The cache is as long as
the whole call needs, also where fewer tokens are asked for, and shapes are static, so that one compilation serves a
workload. Compilation happens in the warm-up.
"""

import warnings
from typing import Any

import torch
from transformers import CompileConfig

from benchmarks.contenders import AbsentError, Files, Tokens
from benchmarks.contenders.hf_generate import HuggingFace
from benchmarks.workloads import Workload
from gptloop.checkpoint.checkpoint import TORCH_TYPES


def load(name: str, files: Files, *, device: str, threads: int) -> "CompiledHuggingFace":
    """From the checkpoint.

    Raises:
        AbsentError: If torch.compile does not work here: on the CPU it needs a C++ compiler and Python's headers.
    """
    torch.compiler.reset()  # what earlier cases compiled counts towards a limit, beyond which torch runs eagerly
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, about its own parts
            torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # inductor raises whatever its compiler makes of the machine
        raise AbsentError(f"torch.compile does not work here: {str(error).strip().splitlines()[0]}") from error
    return CompiledHuggingFace(files.checkpoint, device, TORCH_TYPES[files.precision])


class CompiledHuggingFace(HuggingFace):
    """Hugging Face generate, static cache, compiled decode step."""

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `benchmarks.contenders.Contender`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().generate(ids, workload, max_new_tokens=max_new_tokens, greedy=greedy)

    def options(self, workload: Workload) -> dict[str, Any]:
        """What `generate` is given besides the work."""
        mode = "default" if self._model.device.type == "cpu" else "reduce-overhead"  # the latter is about CUDA graphs
        config = CompileConfig(mode=mode, dynamic=False)
        config._compile_all_devices = True  # type: ignore[assignment]  # a switch without a type
        return {
            "cache_implementation": "static",
            "max_cache_len": workload.prompt_len + workload.max_new_tokens,
            "compile_config": config,
        }
