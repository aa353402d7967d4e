"""GPT-2 as an ONNX graph that generates text, authored operator by operator.

`model.build` is the way in; the other modules hold one concept each. Nothing here knows files, runtimes or torch:
weights come in as `onnx_ir` tensors.
"""

from gptloop.graph.model import OPSET, build

__all__ = ["OPSET", "build"]
