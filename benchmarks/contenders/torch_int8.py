"""The PyTorch loop with dynamic int8 products: the best eager int8 that torch 2.13 was found to offer for GPT-2.

GPT-2's products are Conv1D; they are taken as the Linear that they are, transposed, the LM head among them. What was
tried on a product of gpt2's shape, at 1, 8 and 64 rows on a CPU with VNNI:

- `torch.ops.quantized.linear_dynamic`, packed weights with one scale per output column: runs, the fastest. This is it.
- `torch.ao.quantization.quantize_dynamic` on nn.Linear: runs; the same kernel, with 7 bits for activations
  (`reduce_range`, for CPUs without VNNI) and so a larger error, and the overhead of a module.
- torchao 0.18 `Int8DynamicActivationInt8WeightConfig`: runs; slower, eager, than the product in float32 at 1 and at
  8 rows. `Int8WeightOnlyConfig`: runs; slower than dynamic int8 everywhere.
- `torch._weight_int8pack_mm` (weight-only): runs; in float32 a scalar loop, in bfloat16 slower than dynamic int8.
"""

from __future__ import annotations

import warnings

import torch

from benchmarks.contenders import AbsentError, Files
from benchmarks.contenders.torch_scored import Scored, ScoringTorchLoop
from gptloop.checkpoint import Checkpoint, Model
from gptloop.exporter.int8 import quantize


def load(name: str, files: Files, *, device: str, threads: int) -> Scored:
    """From the checkpoint, quantized while it is loaded.

    Raises:
        AbsentError: If this torch has no dynamic int8 product, or for a GPU.
    """
    if device != "cpu":
        raise AbsentError("torch's packed dynamic int8 products are for the CPU")
    if not hasattr(torch.ops.quantized, "linear_dynamic"):
        raise AbsentError(f"torch {torch.__version__} has no quantized::linear_dynamic")
    return Scored(TorchInt8Loop(files.checkpoint))


class TorchInt8Loop(ScoringTorchLoop):
    """A TorchLoop whose products are int8, quantized per output column; embeddings and attention stay float32."""

    def __init__(self, model: Model | Checkpoint):
        super().__init__(model, device="cpu")
        self._packed = {
            name.removesuffix(".weight"): _pack(self._w.pop(name).T, self._w[name.removesuffix("weight") + "bias"])
            for name in list(self._w)
            if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
        }
        self._packed_head = _pack(self._head, None)
        self._w.pop("lm_head.weight", None)
        del self._head

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return _product(x, self._packed[name])

    def _lm_head(self, x: torch.Tensor) -> torch.Tensor:
        return _product(self._layer_norm("ln_f", x), self._packed_head)


def _pack(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """float32 [out, in] -> what the product wants, the same int8 numbers that the exported file has."""
    values, scale = quantize(weight, per_row=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to remove quantized dtypes, and says so at each use
        matrix = torch._make_per_channel_quantized_tensor(values, scale, torch.zeros(len(scale), dtype=torch.int64), 0)
        return torch.ops.quantized.linear_prepack(matrix, bias)


def _product(x: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=False)
    return product
