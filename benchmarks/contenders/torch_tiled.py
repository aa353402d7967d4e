"""The PyTorch loop as most people write it: the prompt repeated for every candidate, and prefilled as often."""

import torch

from benchmarks.contenders import Files, OfLoop
from gptloop import TorchLoop
from gptloop.checkpoint.checkpoint import TORCH_TYPES
from gptloop.reference.torch_loop import Padding


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the checkpoint."""
    return OfLoop(TiledTorchLoop(files.checkpoint, device=device, dtype=TORCH_TYPES[files.precision]))


class TiledTorchLoop(TorchLoop):
    """A TorchLoop that prefills every candidate."""

    def prefill_candidates(
        self, ids: torch.Tensor, R: int, new_tokens: int, padding: Padding | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits and KV cache of R candidates per prompt."""
        return self.prefill(ids.repeat_interleave(R, 0), new_tokens, padding and padding.repeat(R))
