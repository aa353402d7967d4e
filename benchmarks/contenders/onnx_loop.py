"""The candidate: the exported file in ONNX Runtime, in each precision."""

from benchmarks.contenders import Files, OfLoop
from gptloop import OnnxLoop


def prepare(name: str, files: Files) -> None:
    """Export in the contender's precision, where that is not one that every size is exported in."""
    path, precision = files.exported(files.precision_of(name)), files.precision_of(name)
    if not path.exists():
        from gptloop import export  # noqa: PLC0415  (who runs the file needs nothing that writes it)

        export(files.checkpoint, path, precision=precision)


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the exported file of the contender's precision."""
    return OfLoop(OnnxLoop(files.exported(files.precision_of(name)), device=device, threads=threads))
