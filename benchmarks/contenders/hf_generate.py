"""transformers' own generate, with its own random numbers, so that only its greedy tokens can be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2LMHeadModel

from benchmarks.contenders import Files, Tokens, prompt_mask
from benchmarks.workloads import Workload
from gptloop.checkpoint.checkpoint import TORCH_TYPES


def load(name: str, files: Files, *, device: str, threads: int) -> "HuggingFace":
    """From the checkpoint."""
    return HuggingFace(files.checkpoint, device, TORCH_TYPES[files.precision])


class HuggingFace:
    """Hugging Face generate with its defaults.

    Args:
        checkpoint: Directory.
        device: "cpu" or "cuda".
        dtype: Of weights and KV cache.
    """

    def __init__(self, checkpoint: Path, device: str, dtype: torch.dtype = torch.float32):
        self._model = GPT2LMHeadModel.from_pretrained(checkpoint, dtype=dtype).eval()
        self._model.to(device)
        # The same work as everybody: no early stop.
        self._model.generation_config.eos_token_id = None
        self._model.generation_config.pad_token_id = 0

    def generate(self, ids: Tokens, workload: Workload, *, max_new_tokens: int, greedy: bool = False) -> Tokens:
        """As `benchmarks.contenders.Contender`."""
        sampling = {
            "temperature": workload.temperature,
            "top_k": workload.top_k,
            "num_return_sequences": workload.num_return_sequences,
        }
        prompts = torch.from_numpy(ids).to(self._model.device)
        mask = prompt_mask(workload)
        output = self._model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts) if mask is None else torch.from_numpy(mask).to(prompts.device),
            max_new_tokens=max_new_tokens,
            do_sample=not greedy,
            **({} if greedy else sampling),
            **self.options(workload),
        )
        return np.asarray(output[:, ids.shape[1] :].cpu())

    def options(self, workload: Workload) -> dict[str, Any]:
        """What `generate` is given besides the work."""
        return {}
