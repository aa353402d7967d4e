"""Every step written out, without a Loop, and on a GPU captured as one CUDA graph.

The flavor "unrolled" of gptloop.graph.variants.lean.

A file is made for each number of new tokens that is asked for, in the warm-up. On a GPU each holds weights of its own.
"""

from typing import Any

import numpy.typing as npt

from benchmarks.contenders import Files, OfLoop, Tokens
from gptloop import OnnxLoop, export


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the checkpoint: what is loaded depends on the call."""
    return OfLoop(UnrolledLoops(files, device, threads))


class UnrolledLoops:
    """The unrolled files of a size, each made when its number of new tokens is first asked for.

    Args:
        files: The size on disk.
        device: "cpu" or "cuda".
        threads: Threads of one product.
    """

    def __init__(self, files: Files, device: str, threads: int):
        self._files, self._device, self._threads = files, device, threads
        self._loops: dict[int, OnnxLoop] = {}

    def generate(self, input_ids: npt.ArrayLike, *, max_new_tokens: int, **arguments: Any) -> Tokens:
        """As `gptloop.OnnxLoop.generate`."""
        if max_new_tokens not in self._loops:
            files = self._files
            path = files.flavored(f"{files.precision}-unrolled-{max_new_tokens}")
            if not path.exists():
                new_tokens = max_new_tokens
                export(files.checkpoint, path, precision=files.precision, flavor="unrolled", max_new_tokens=new_tokens)
            self._loops[max_new_tokens] = OnnxLoop(path, device=self._device, threads=self._threads)
        return self._loops[max_new_tokens].generate(input_ids, max_new_tokens=max_new_tokens, **arguments)
