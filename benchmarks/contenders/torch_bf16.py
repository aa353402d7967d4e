"""The PyTorch loop in bfloat16, where the CPU computes in it. Elsewhere torch would emulate it, which nobody asks for.

Weights, activations and KV cache are bfloat16; torch's products add up in float32, and sampling is float32.
"""

import torch

from benchmarks.contenders import AbsentError, Files
from benchmarks.contenders.torch_scored import Scored, ScoringTorchLoop
from benchmarks.machine.cpu import cpu_features, has_bf16


def load(name: str, files: Files, *, device: str, threads: int) -> Scored:
    """From the checkpoint.

    Raises:
        AbsentError: If the CPU has no bfloat16 arithmetic, or for a GPU, where a case's own precision says so.
    """
    if device != "cpu":
        raise AbsentError("on a GPU, the precision is the case's")
    if not has_bf16():
        found = ", ".join(cpu_features() or ["nothing that is told"])
        raise AbsentError(f"the CPU has no bfloat16 arithmetic (it has {found})")
    return Scored(ScoringTorchLoop(files.checkpoint, device="cpu", dtype=torch.bfloat16))
