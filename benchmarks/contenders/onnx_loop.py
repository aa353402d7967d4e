"""The candidate: the exported file in ONNX Runtime, in each precision."""

from benchmarks.contenders import KINDS, Files, OfLoop
from gptloop import OnnxLoop


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the exported file of the contender's precision."""
    return OfLoop(OnnxLoop(files.exported(KINDS[name].precision), device=device, threads=threads))
