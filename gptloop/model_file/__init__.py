"""An exported file, read without running it: its metadata, its nodes, and whether it is whole.

Knows the .onnx file, its data file and its tokenizer's; no runtime. Whoever made the file is not trusted: what it says
of itself is checked before any other file is opened.
"""

from gptloop.model_file.reading import ModelFile, located, read_model
from gptloop.model_file.tensors import ExternalTensor, external_tensors, graphs

__all__ = ["ExternalTensor", "ModelFile", "external_tensors", "graphs", "located", "read_model"]
