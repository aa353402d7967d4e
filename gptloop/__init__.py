"""GPT-2 as one ONNX graph that generates text."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptloop.exporter.export import export
    from gptloop.reference.torch_loop import TorchLoop
    from gptloop.runtime.onnx_loop import OnnxLoop

__all__ = ["OnnxLoop", "TorchLoop", "export"]

# Imported on first use: a server that only runs an exported file should not wait for torch and transformers.
_HOMES = {
    "OnnxLoop": "gptloop.runtime.onnx_loop",
    "TorchLoop": "gptloop.reference.torch_loop",
    "export": "gptloop.exporter.export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
