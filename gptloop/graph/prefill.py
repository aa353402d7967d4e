"""The pass over the prompts: every layer's PromptCache, and the logits of the last positions."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import attention
from gptloop.graph.attention import PromptCache, PromptMask
from gptloop.graph.call import Call
from gptloop.graph.logits import Logits
from gptloop.graph.transformer import Transformer


class Prompts(NamedTuple):
    """What the decode steps read of the prompts."""

    caches: list[PromptCache]
    mask: PromptMask
    lengths_B1: ir.Value  # int64, without padding


def prefill(
    op: OpBuilder, transformer: Transformer, input_ids: ir.Value, attention_mask: ir.Value, call: Call
) -> tuple[Logits, Prompts]:
    """Prefill the prompts.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        input_ids: int64 [B, P].
        attention_mask: int64 [B, P].
        call: The call's sizes.

    Returns:
        Logits [B, V] after each prompt, and what the decode steps read.
    """
    mask = attention.prompt_mask(op, attention_mask, op.Range(0, op.Squeeze(call.P), 1), transformer.dtype)
    # As Hugging Face derives them: counted from a prompt's first token; padding's own do not matter.
    positions_BP = op.Max(op.Sub(op.CumSum(attention_mask, 1), 1), 0)
    x = op.Reshape(transformer.embed(op, input_ids, positions_BP), [-1, transformer.n_embd])  # [B * P, D]
    shape_BP3Hd = attention.heads_shape(op, call.B, call.P, transformer.n_head, transformer.head_dim)
    caches: list[PromptCache] = []

    last_layer = transformer.n_layer - 1

    def attend(layer: int, qkv: ir.Value) -> ir.Value:
        # Of the last layer, nothing but K, V and the last position is read.
        last = layer == last_layer
        context, cache = attention.prefill(op, qkv, shape_BP3Hd, transformer.n_embd, mask, last_position=last)
        caches.append(cache)
        return context

    for layer in range(last_layer):
        x = transformer.block(op, layer, x, attend)
    x = transformer.block(op, last_layer, x, attend, residual=last_position(op, x, call))
    lengths_B1 = op.ReduceSum(attention_mask, [1], keepdims=1)
    return transformer.lm_head(op, x), Prompts(caches, mask, lengths_B1)


def last_position(op: OpBuilder, x: ir.Value, call: Call) -> ir.Value:
    """[B * P, D] -> [B, D]."""
    return op.Gather(op.Reshape(x, op.Concat(call.B, call.P, [-1], axis=0)), -1, axis=1)
