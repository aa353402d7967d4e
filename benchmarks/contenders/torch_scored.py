"""A PyTorch loop in a lower precision, with its opinion of a text: for those whose parity is their quality."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.contenders import OfLoop
from gptloop import TorchLoop


class ScoringTorchLoop(TorchLoop):
    """A TorchLoop that can be asked what it thinks of given tokens."""

    @torch.inference_mode()
    def score(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """As `gptloop.reference.evaluate.Scorer`."""
        x = self._w["wte.weight"][ids] + self._w["wpe.weight"][: len(ids)]
        H, D = self.config.n_head, self.config.n_embd
        cache = [torch.empty(2, 1, H, len(ids), D // H, dtype=self.dtype) for _ in range(self.config.n_layer)]
        logits = self._lm_head(self._blocks(x, cache, past_len=0, rows=1, seen=None))[:-1].double()
        logprobs = logits.log_softmax(-1).gather(1, torch.from_numpy(ids[1:, None])).squeeze(1)
        return logprobs.numpy(), logits.argmax(-1).numpy()


class Scored(OfLoop):
    """A ScoringTorchLoop as a contender."""

    def score(self, ids: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """As `gptloop.reference.evaluate.Scorer`."""
        return self.loop.score(ids)
