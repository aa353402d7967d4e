"""GPT-2 as one ONNX graph that generates text."""

from gptloop.export import export
from gptloop.onnx_loop import OnnxLoop
from gptloop.torch_loop import TorchLoop

__all__ = ["OnnxLoop", "TorchLoop", "export"]
