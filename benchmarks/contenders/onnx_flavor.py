"""The exported file in one of the flavors for a GPU that have a Loop (gptloop.graph.variants.lean)."""

from pathlib import Path

from benchmarks.contenders import Files, OfLoop
from gptloop import OnnxLoop


def prepare(name: str, files: Files) -> None:
    """Export the flavor."""
    if not (path := _path(name, files)).exists():
        from gptloop import export  # noqa: PLC0415  (who runs the file needs nothing that writes it)

        export(files.checkpoint, path, precision=files.precision, flavor=_flavor(name))


def load(name: str, files: Files, *, device: str, threads: int) -> OfLoop:
    """From the flavor's file."""
    return OfLoop(OnnxLoop(_path(name, files), device=device, threads=threads))


def _flavor(name: str) -> str:
    return name.removeprefix("onnx_")


def _path(name: str, files: Files) -> Path:
    return files.flavored(f"{files.precision}-{_flavor(name)}")
