"""TorchLoop: the KV-cached PyTorch loop, baseline of every speedup and oracle of every token.

An eager loop as strong as we know how to write one: no module overhead, one addmm per product, the KV cache allocated
once and written in place, scaled_dot_product_attention, logits for the last position only, the prompt prefilled once
and its cache repeated for the candidates. Knows nothing of ONNX.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from gptloop.checkpoint import Checkpoint, Model, open_checkpoint
from gptloop.checkpoint.config import query_scale
from gptloop.reference.sampling import Sampler
from gptloop.runtime.loop import Loop, Outputs
from gptloop.runtime.request import Request
from gptloop.values import shown

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


class TorchLoop(Loop):
    """The KV-cached PyTorch loop.

    Args:
        model: A GPT2LMHeadModel, a local directory, or a hub id.
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
        dtype: Of weights and KV cache; float32 unless given. Sampling is always float32.

    Attributes:
        config: The checkpoint's `transformers.GPT2Config`.
        device: The `torch.device` where it runs.
        dtype: Of weights and KV cache.

    Raises:
        ValueError: As `gptloop.checkpoint.open_checkpoint`, or if the device is unknown or absent; likewise
            FileNotFoundError and TypeError.
    """

    def __init__(self, model: Model | Checkpoint, *, device: str = "auto", dtype: torch.dtype | None = None):
        checkpoint = open_checkpoint(model)
        super().__init__(checkpoint.config)
        self.config = checkpoint.config
        self.device = _device(device)
        self.dtype = dtype or torch.float32
        # Copied, also where nothing changes: from memory of its own it reads faster than from a mapped file.
        self._w = {name: t.to(self.device, self.dtype, copy=True) for name, t in checkpoint.tensors.items()}
        self._head = self._w.get("lm_head.weight", self._w["wte.weight"])
        self._activation = ACTIVATIONS[self.config.activation_function]

    @torch.inference_mode()
    def _run(self, request: Request) -> Outputs:
        R, N = request.num_return_sequences, request.max_new_tokens
        # Copied, as torch takes no negative strides, which an array keeps along an axis of one.
        ids, mask = (torch.from_numpy(x.copy()).to(self.device) for x in (request.input_ids, request.attention_mask))
        padding = Padding(mask) if request.attention_mask.min() == 0 else None
        sampler = Sampler(request, self.device)
        logits, cache = self.prefill_candidates(ids, R, new_tokens=N, padding=padding)
        rows_padding = padding and padding.repeat(R)
        token = sampler.draw(logits, 0)
        for step in range(1, N):
            if sampler.all_ended():
                break
            past_len = ids.shape[1] + step - 1
            token = sampler.draw(self.decode_one_token(token, cache, past_len, rows_padding), step)
        return sampler.outputs()

    def prefill_candidates(
        self, ids: torch.Tensor, R: int, new_tokens: int, padding: Padding | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Logits [B * R, V] and KV cache of R candidates per prompt: each prompt is prefilled once."""
        logits, cache = self.prefill(ids, new_tokens, padding)
        return logits.repeat_interleave(R, 0), [kv.repeat_interleave(R, 1) for kv in cache]

    def prefill(
        self, ids: torch.Tensor, new_tokens: int, padding: Padding | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The pass over the prompts.

        Args:
            ids: int64 [B, P].
            new_tokens: How many more positions the KV cache has room for, plus one.
            padding: Where the prompts are padded, if any is.

        Returns:
            Logits [B, V] of the last positions, and per layer K and V as [2, B, H, P + new_tokens - 1, d].
        """
        B, P = ids.shape
        H, D = self.config.n_head, self.config.n_embd
        cache = [
            torch.empty(2, B, H, P + new_tokens - 1, D // H, dtype=self.dtype, device=self.device)
            for _ in range(self.config.n_layer)
        ]
        positions = self._w["wpe.weight"][:P] if padding is None else self._w["wpe.weight"][padding.positions]
        x = (self._w["wte.weight"][ids] + positions).view(B * P, D)
        x = self._blocks(x, cache, past_len=0, rows=B, seen=padding.causal() if padding else None)
        return self._lm_head(x.view(B, P, D)[:, -1]), cache

    def decode_one_token(
        self, token: torch.Tensor, cache: list[torch.Tensor], past_len: int, padding: Padding | None = None
    ) -> torch.Tensor:
        """One decode step: logits [S, V] after `token` [S], whose K and V go into the cache at `past_len`."""
        position = past_len if padding is None else past_len - padding.lengths
        x = self._w["wte.weight"][token] + self._w["wpe.weight"][position]
        seen = padding.seen(past_len + 1) if padding else None
        return self._lm_head(self._blocks(x, cache, past_len, rows=len(token), seen=seen))

    def _blocks(
        self, x: torch.Tensor, cache: list[torch.Tensor], past_len: int, rows: int, seen: torch.Tensor | None
    ) -> torch.Tensor:
        for layer in range(self.config.n_layer):
            h = f"h.{layer}"
            qkv = self._linear(f"{h}.attn.c_attn", self._layer_norm(f"{h}.ln_1", x))
            x = x + self._linear(f"{h}.attn.c_proj", self._attend(qkv, cache[layer], past_len, rows, layer, seen))
            inner = self._activation(self._linear(f"{h}.mlp.c_fc", self._layer_norm(f"{h}.ln_2", x)))
            x = x + self._linear(f"{h}.mlp.c_proj", inner)
        return x

    def _attend(
        self, qkv: torch.Tensor, cache: torch.Tensor, past_len: int, rows: int, layer: int, seen: torch.Tensor | None
    ) -> torch.Tensor:
        H, D = self.config.n_head, self.config.n_embd
        new = qkv.shape[0] // rows
        query, key, value = qkv.view(rows, new, 3, H, D // H).permute(2, 0, 3, 1, 4)  # each [rows, H, new, d]
        cache[0, :, :, past_len : past_len + new] = key
        cache[1, :, :, past_len : past_len + new] = value
        keys, values = cache[:, :, :, : past_len + new]
        # A prompt is the only pass of more than one position, and it starts the cache.
        x = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=seen,
            is_causal=new > 1 and seen is None,
            scale=query_scale(self.config, layer),
        )
        return x.transpose(1, 2).reshape(rows * new, D)

    def _lm_head(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(self._layer_norm("ln_f", x), self._head)

    def _layer_norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self._w[f"{name}.weight"], self._w[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self.config.layer_norm_epsilon)

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self._w[f"{name}.bias"], x, self._w[f"{name}.weight"])


class Padding:
    """Left padding of a batch.

    Args:
        mask: int64 [rows, P], 0 for padding.

    Attributes:
        positions: int64 [rows, P], counted from each row's first token.
        lengths: int64 [rows], how many are padding.
    """

    def __init__(self, mask: torch.Tensor):
        self._mask = mask
        self.positions = (mask.cumsum(1) - 1).clamp(min=0)
        self.lengths = mask.shape[1] - mask.sum(1)

    def repeat(self, R: int) -> Padding:
        """The same for R candidates of each row."""
        return Padding(self._mask.repeat_interleave(R, 0))

    def seen(self, length: int) -> torch.Tensor:
        """Which positions a row that stands behind the prompt may see: bool [rows, 1, 1, length]."""
        return F.pad(self._mask, (0, length - self._mask.shape[1]), value=1).bool()[:, None, None, :]

    def causal(self) -> torch.Tensor:
        """Which positions the prompt's own see: bool [rows, 1, P, P]; padding sees itself, or softmax had nothing."""
        P = self._mask.shape[1]
        one = torch.ones(P, P, dtype=torch.bool, device=self._mask.device)
        return (self.seen(P) & one.tril()) | torch.eye(P, dtype=torch.bool, device=self._mask.device)


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {shown(name)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch.cuda.is_available() is false")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
