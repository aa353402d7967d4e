"""The pass over the prompts: every layer's PromptCache, and the logits of the last positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.attention import PromptCache
from gptloop.graph.call import Call
from gptloop.graph.logits import Logits
from gptloop.graph.prompt_attention import (
    Chunks,
    PrefillShapes,
    attend,
    attend_in_chunks,
    causal_mask,
    newest_first,
    padding_mask,
)
from gptloop.graph.scope import branches
from gptloop.graph.transformer import Transformer


class Prompts(NamedTuple):
    """What the decode steps read of the prompts: of their tokens the newest first, and of an even number."""

    caches: list[PromptCache]  # of all their tokens, by layer
    padding_B11P: ir.Value  # added to scores: 0, or at padding a number that leaves no probability
    lengths_B1: ir.Value  # int64, without padding

    @classmethod
    def of(cls, op: OpBuilder, caches: list[PromptCache], attention_mask: ir.Value, dtype: ir.DataType) -> Prompts:
        """From int64 [B, P]."""
        lengths_B1 = op.ReduceSum(attention_mask, [1], keepdims=1)
        (mask_BP,) = newest_first(op, attention_mask)
        return cls(caches, padding_mask(op, mask_BP, dtype), lengths_B1)

    def tokens(self, op: OpBuilder) -> ir.Value:
        """How many of each prompt have K and V: int64 [1]."""
        return op.Shape(self.padding_B11P, start=3, end=4)


def prefill(
    op: OpBuilder,
    transformer: Transformer,
    input_ids: ir.Value,
    attention_mask: ir.Value,
    call: Call,
    past: Sequence[PromptCache] | None = None,
) -> tuple[Logits, Prompts]:
    """Prefill the prompts.

    Args:
        op: The operators of the graph that the prefill is in.
        transformer: The layers.
        input_ids: int64 [B, P].
        attention_mask: int64 [B, P].
        call: The call's sizes; where it has an L, long prompts attend in chunks.
        past: K and V of the first L tokens, by layer, which are not computed again.

    Returns:
        Logits [B, V] after each prompt, and what the decode steps read.
    """
    # As Hugging Face derives them: counted from a prompt's first token; padding's own do not matter.
    positions_BP = op.Max(op.Sub(op.CumSum(attention_mask, 1), 1), 0)
    ids_BP, mask_BP, positions_BP = newest_first(op, input_ids, attention_mask, positions_BP)
    padding_B11P, P = padding_mask(op, mask_BP, transformer.dtype), op.Shape(ids_BP, start=1, end=2)
    if past:
        P = op.Where(op.Greater(call.L, 0), op.Sub(call.P, call.L), P)
        ids_BP, positions_BP = (op.Slice(x, [0], P, [1]) for x in (ids_BP, positions_BP))
    x = op.Reshape(transformer.embed(op, ids_BP, positions_BP), [-1, transformer.n_embd])  # [B * P, D]
    shapes = PrefillShapes.of(op, call.B, P, transformer.n_head, transformer.head_dim)
    attention = _Attention(op, shapes, padding_B11P, P, call.L, past, transformer)
    caches: list[PromptCache] = []

    def of_layer(layer: int, qkv: ir.Value) -> ir.Value:
        context, cache = attention.of_layer(layer, qkv)
        caches.append(cache)
        return context

    last_layer = transformer.n_layer - 1
    for layer in range(last_layer):
        x = transformer.block(op, layer, x, of_layer)
    x = transformer.block(op, last_layer, x, of_layer, residual=last_position(op, x, call.B, P))
    return transformer.lm_head(op, x), Prompts.of(op, caches, attention_mask, transformer.dtype)


class _Attention:
    """How the tokens attend in each layer.

    Args:
        op: As `prefill`, like what follows.
        shapes: Of the tokens' heads.
        padding_B11P: Of the prompts.
        P: int64 [1], tokens that attend.
        L: int64 [1], tokens before them; None for attention in one piece, without branches.
        past: K and V of those, by layer.
        transformer: The layers.
    """

    def __init__(
        self,
        op: OpBuilder,
        shapes: PrefillShapes,
        padding_B11P: ir.Value,
        P: ir.Value,
        L: ir.Value | None,
        past: Sequence[PromptCache] | None,
        transformer: Transformer,
    ):
        self._op, self._shapes, self._padding_B11P, self._past = op, shapes, padding_B11P, past
        self._L = L
        self._last_layer, self._dtype = transformer.n_layer - 1, transformer.dtype
        self._chunks = None if L is None else Chunks.of(op, P, L)
        queries = self._chunks.positions(op) if self._chunks else P
        self._mask = causal_mask(op, padding_B11P, queries, transformer.dtype)

    def of_layer(self, layer: int, qkv: ir.Value) -> tuple[ir.Value, PromptCache]:
        """The context, [rows, D], and the layer's PromptCache."""
        # Of the last layer, nothing but K, V and the last position is read.
        last = layer == self._last_layer
        mask, past = self._padding_B11P if last else self._mask, self._past[layer] if self._past else None
        chunks, shapes = self._chunks, self._shapes

        def whole(op: OpBuilder) -> list[ir.Value]:
            context, cache = attend(op, qkv, shapes, mask, last_position=last)
            return [context, *cache]

        def long(op: OpBuilder) -> list[ir.Value]:
            if last or chunks is None:
                context, cache = attend(op, qkv, shapes, mask, last_position=last, past=past, L=self._L)
            else:
                context, cache = attend_in_chunks(op, qkv, shapes, mask, chunks, past)
            return [context, *cache]

        needed = chunks and (chunks.continuing if last else chunks.needed)
        if needed is None or (last and past is None):
            context, *cache = whole(self._op)
        else:
            H, d = shapes.H, shapes.d
            # A name for each size: ONNX Runtime takes values of the same names for equally large.
            dims: list[list[int | str]] = [["B", H, d, "P_even"], ["B", H, "P_even", d]]
            dims.insert(0, ["B" if last else "tokens", H * d])
            context, *cache = branches(self._op, needed, long, whole, [(self._dtype, shape) for shape in dims])
        return context, PromptCache(*cache)


def last_position(op: OpBuilder, x: ir.Value, B: ir.Value, P: ir.Value) -> ir.Value:
    """[B * P, D] -> [B, D] of the newest tokens, from B and P, int64 [1] each."""
    return op.Gather(op.Reshape(x, op.Concat(B, P, [-1], axis=0)), 0, axis=1)
