"""TorchLoop: the KV-cached PyTorch loop, baseline of every speedup and oracle of every token.

An eager loop as strong as we know how to write one: no module overhead, one addmm per product, the KV cache allocated
once and written in place, scaled_dot_product_attention, logits for the last position only, the prompt prefilled once
and its cache repeated for the candidates. Knows nothing of ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from gptloop.checkpoint import Checkpoint, Model, open_checkpoint, query_scale
from gptloop.request import Request, check_request
from gptloop.threefry import uniforms

ACTIVATIONS = {
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_fast": lambda x: F.gelu(x, approximate="tanh"),
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


class TorchLoop:
    """The KV-cached PyTorch loop.

    Args:
        model: A GPT2LMHeadModel, a local directory, or a hub id.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        dtype: Of weights and KV cache; float32 unless given. Sampling is always float32.

    Raises:
        ValueError: As `gptloop.checkpoint.open_checkpoint`, or if the device is unknown or absent.
    """

    def __init__(self, model: Model | Checkpoint, *, device: str = "auto", dtype: torch.dtype | None = None):
        checkpoint = open_checkpoint(model)
        self.config = checkpoint.config
        self.device = _device(device)
        self.dtype = dtype or torch.float32
        self._w = {name: t.to(self.device, self.dtype) for name, t in checkpoint.tensors.items()}
        self._head = self._w.get("lm_head.weight", self._w["wte.weight"])
        self._activation = ACTIVATIONS[self.config.activation_function]

    def generate(
        self,
        input_ids: npt.ArrayLike,
        *,
        max_new_tokens: int,
        num_return_sequences: int = 1,
        temperature: float | Sequence[float] = 1.0,
        top_k: int | Sequence[int] = 50,
        seed: int | Sequence[int] = 0,
    ) -> npt.NDArray[np.int64]:
        """Generate; arguments, result and errors are those of `gptloop.OnnxLoop.generate`."""
        request = check_request(
            self.config,
            input_ids,
            max_new_tokens=max_new_tokens,
            num_return_sequences=num_return_sequences,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
        )
        return self._run(request)

    @torch.inference_mode()
    def _run(self, request: Request) -> npt.NDArray[np.int64]:
        R, N = request.num_return_sequences, request.max_new_tokens
        ids = torch.from_numpy(request.input_ids).to(self.device)
        sampler = Sampler(request, self.device)
        logits, cache = self.prefill_candidates(ids, R, new_tokens=N)
        tokens = [sampler.draw(logits, 0)]
        for step in range(1, N):
            logits = self.decode_one_token(tokens[-1], cache, past_len=ids.shape[1] + step - 1)
            tokens.append(sampler.draw(logits, step))
        return torch.stack(tokens, 1).cpu().numpy()

    def prefill_candidates(self, ids: torch.Tensor, R: int, new_tokens: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits [B * R, V] and KV cache of R candidates per prompt: each prompt is prefilled once."""
        logits, cache = self.prefill(ids, new_tokens)
        return logits.repeat_interleave(R, 0), [kv.repeat_interleave(R, 1) for kv in cache]

    def prefill(self, ids: torch.Tensor, new_tokens: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The pass over the prompts.

        Args:
            ids: int64 [B, P].
            new_tokens: How many more positions the KV cache has room for, plus one.

        Returns:
            Logits [B, V] of the last positions, and per layer K and V as [2, B, H, P + new_tokens - 1, d].
        """
        B, P = ids.shape
        H, D = self.config.n_head, self.config.n_embd
        cache = [
            torch.empty(2, B, H, P + new_tokens - 1, D // H, dtype=self.dtype, device=self.device)
            for _ in range(self.config.n_layer)
        ]
        x = (self._w["wte.weight"][ids] + self._w["wpe.weight"][:P]).view(B * P, D)
        x = self._blocks(x, cache, past_len=0, rows=B)
        return self._lm_head(x.view(B, P, D)[:, -1]), cache

    def decode_one_token(self, token: torch.Tensor, cache: list[torch.Tensor], past_len: int) -> torch.Tensor:
        """One decode step: logits [S, V] after `token` [S], whose K and V go into the cache at `past_len`."""
        x = self._w["wte.weight"][token] + self._w["wpe.weight"][past_len]
        return self._lm_head(self._blocks(x, cache, past_len, rows=len(token)))

    def _blocks(self, x: torch.Tensor, cache: list[torch.Tensor], past_len: int, rows: int) -> torch.Tensor:
        for layer in range(self.config.n_layer):
            h = f"h.{layer}"
            qkv = self._linear(f"{h}.attn.c_attn", self._layer_norm(f"{h}.ln_1", x))
            x = x + self._linear(f"{h}.attn.c_proj", self._attend(qkv, cache[layer], past_len, rows, layer))
            inner = self._activation(self._linear(f"{h}.mlp.c_fc", self._layer_norm(f"{h}.ln_2", x)))
            x = x + self._linear(f"{h}.mlp.c_proj", inner)
        return x

    def _attend(self, qkv: torch.Tensor, cache: torch.Tensor, past_len: int, rows: int, layer: int) -> torch.Tensor:
        H, D = self.config.n_head, self.config.n_embd
        new = qkv.shape[0] // rows
        query, key, value = qkv.view(rows, new, 3, H, D // H).permute(2, 0, 3, 1, 4)  # each [rows, H, new, d]
        cache[0, :, :, past_len : past_len + new] = key
        cache[1, :, :, past_len : past_len + new] = value
        keys, values = cache[:, :, :, : past_len + new]
        # A prompt is the only pass of more than one position, and it starts the cache.
        scale = query_scale(self.config, layer)
        x = F.scaled_dot_product_attention(query, keys, values, is_causal=new > 1, scale=scale)
        return x.transpose(1, 2).reshape(rows * new, D)

    def _lm_head(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self._layer_norm("ln_f", x), self._head)

    def _layer_norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self._w[f"{name}.weight"], self._w[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.config.layer_norm_epsilon)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self._w[f"{name}.bias"], x, self._w[f"{name}.weight"])


class Sampler:
    """Draws one token per row and step, by the same rule and the same numbers as the graph (graph/sampling.py)."""

    def __init__(self, request: Request, device: torch.device):
        R = request.num_return_sequences
        numbers = uniforms(request.seed, R, request.max_new_tokens)  # [B, R, N]
        self._uniforms = torch.from_numpy(numbers).reshape(-1, request.max_new_tokens, 1).to(device)
        temperature, top_k = (
            torch.from_numpy(x).to(device).repeat_interleave(R).unsqueeze(1)
            for x in (request.temperature, request.top_k)
        )
        greedy = temperature == 0
        self._temperature = torch.where(greedy, 1.0, temperature)  # [S, 1]
        self._top_k = torch.where(greedy, 1, top_k)  # [S, 1]
        self._k_max = max(1, int(self._top_k.max()))
        self._any_whole = bool((self._top_k == 0).any())

    def draw(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Logits [S, V] -> token ids [S]."""
        ids, probs = self.kept(logits)
        cdf = probs.cumsum(-1)
        total = cdf[:, -1:]
        passed = (cdf <= self._uniforms[:, step] * total) & (cdf < total)
        index = passed.sum(-1, keepdim=True)
        return (index if ids is None else ids.gather(1, index)).squeeze(1)

    def kept(self, logits: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """What is drawn from: token ids in ascending order (None: all of them) and their probabilities."""
        logits = logits.float()
        values, ids = logits.topk(self._k_max)
        beyond = torch.arange(self._k_max, device=logits.device) >= self._top_k
        values = values.masked_fill(beyond, -torch.inf)
        if self._any_whole:
            cut = torch.full_like(logits, -torch.inf).scatter_(1, ids, values)
            whole = torch.where(self._top_k == 0, logits, cut)
            return None, (whole / self._temperature).softmax(-1)
        ids, order = ids.sort(-1)
        return ids, (values.gather(1, order) / self._temperature).softmax(-1)


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch.cuda.is_available() is false")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
