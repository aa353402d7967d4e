"""The baseline: the KV-cached PyTorch loop."""

from benchmarks.contenders import Files, OfLoop
from gptloop import TorchLoop
from gptloop.checkpoint.checkpoint import TORCH_TYPES


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the checkpoint."""
    return OfLoop(TorchLoop(files.checkpoint, device=device, dtype=TORCH_TYPES[files.precision]))
