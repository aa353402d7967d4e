"""Where weights come from: a model in memory, a local directory, a hub id, or a seeded random model of a named size.

Ends with a checked configuration and tensors by their published names (`h.0.attn.c_attn.weight`), whatever layout they
were stored in. Knows neither ONNX nor generation.
"""

import sys

if sys.flags.optimize > 1:
    raise ValueError("transformers cannot be imported without docstrings: run Python without -OO (-O is fine)")

# Only now, as it is they that import transformers.
from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.opening import Model, open_checkpoint
from gptloop.checkpoint.seeded import random_checkpoint

__all__ = ["Checkpoint", "Model", "open_checkpoint", "random_checkpoint"]
