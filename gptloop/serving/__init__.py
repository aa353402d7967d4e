"""An exported file as servers want it: a model repository for Triton's ONNX Runtime backend.

Reads the model file (gptloop.model_file) and nothing else; starts no server.
"""

from gptloop.serving.repository import add_to_repository

__all__ = ["add_to_repository"]
