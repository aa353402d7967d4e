"""The pass over the prompts: every layer's PromptCache, and the logits of the last positions."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import attention
from gptloop.graph.attention import PromptCache
from gptloop.graph.call import Call
from gptloop.graph.transformer import Transformer


def prefill(
    op: OpBuilder, transformer: Transformer, input_ids: ir.Value, call: Call
) -> tuple[ir.Value, list[PromptCache]]:
    """Prefill the prompts.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        input_ids: int64 [B, P].
        call: The call's sizes.

    Returns:
        Logits [B, V] after each prompt, and every layer's PromptCache.
    """
    positions_P = op.Range(0, op.Squeeze(call.P), 1)
    x = op.Reshape(transformer.embed(op, input_ids, positions_P), [-1, transformer.n_embd])  # [B * P, D]
    causal_PP = attention.causal_mask(op, positions_P)
    shape_BP3Hd = op.Concat(call.B, call.P, [3, transformer.n_head, transformer.head_dim], axis=0)
    caches: list[PromptCache] = []

    def attend(qkv: ir.Value) -> ir.Value:
        # Of the last layer, nothing but K, V and the last position is read.
        mask = causal_PP if len(caches) < transformer.n_layer - 1 else None
        context, cache = attention.prefill(op, qkv, shape_BP3Hd, transformer.n_embd, mask)
        caches.append(cache)
        return context

    for layer in range(transformer.n_layer - 1):
        x = transformer.block(op, layer, x, attend)
    x = transformer.block(op, transformer.n_layer - 1, x, attend, residual=last_position(op, x, call))
    return transformer.lm_head(op, x), caches


def last_position(op: OpBuilder, x: ir.Value, call: Call) -> ir.Value:
    """[B * P, D] -> [B, D]."""
    return op.Gather(op.Reshape(x, op.Concat(call.B, call.P, [-1], axis=0)), -1, axis=1)
