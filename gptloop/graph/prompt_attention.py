"""How prompts attend while they are prefilled: causally, on themselves and on what has K and V already.

Tokens stand from the newest to the oldest, queries as well as keys (attention.py says why): a token attends to itself
and to what is behind it here.

Knows shapes and the KV cache, not weights.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph.attention import LOWEST, NEVER, PromptCache, heads_shape
from gptloop.graph.operators import END
from gptloop.graph.scope import subgraph, typed

_I64, _BOOL = ir.DataType.INT64, ir.DataType.BOOL

# Tokens of a prompt that attend in one piece, at most. The products, the mask and the softmax of a piece go over what
# its newest token sees, so that of the square of a long prompt half is never computed. They are counted from a prompt's
# end and all have this length, so that a token's sums begin at the same place whatever stands before the prompt.
CHUNK = 64


class PrefillShapes(NamedTuple):
    """Sizes of the heads."""

    BP3Hd: ir.Value  # int64 [4], as `heads_shape` gives it
    H: int
    d: int

    @classmethod
    def of(cls, op: OpBuilder, B: ir.Value, P: ir.Value, n_head: int, head_dim: int) -> PrefillShapes:
        """From the number of prompts and of tokens that attend, int64 [1] each."""
        return cls(heads_shape(op, B, P, n_head, head_dim), n_head, head_dim)


class Chunks(NamedTuple):
    """How the tokens that attend are divided: pieces of one length, but for what the last one has too much.

    Attributes:
        needed: bool [], whether there are several, or tokens before.
        continuing: bool [], whether there are tokens before.
        number: int64 [1].
        length: int64 [1].
        P: int64 [1], tokens in all.
        L: int64 [1], tokens before them.
    """

    needed: ir.Value
    continuing: ir.Value
    number: ir.Value
    length: ir.Value
    P: ir.Value
    L: ir.Value

    @classmethod
    def of(cls, op: OpBuilder, P: ir.Value, L: ir.Value) -> Chunks:
        """From the attributes of these names."""
        number = op.Div(op.Add(P, CHUNK - 1), CHUNK)
        continuing = op.Greater(L, 0)
        needed = op.Or(op.Greater(number, 1), continuing)
        return cls(op.Squeeze(needed), op.Squeeze(continuing), number, op.Min(P, [CHUNK]), P, L)

    def positions(self, op: OpBuilder) -> ir.Value:
        """int64 [1], as many as the chunks have: P, and what the last one has too much."""
        return op.Mul(self.number, self.length)


def chunk_bounds(P: int) -> list[int]:
    """The tokens, from the newest on, at which the chunks of a prompt begin that is all there is, and in the end P."""
    return [*range(0, P, CHUNK), P]


def newest_first(op: OpBuilder, *of_tokens: ir.Value) -> list[ir.Value]:
    """Values of the prompts' tokens, int64 [B, P] each, in the order that they attend in; a 0 behind an odd number."""
    B, P = op.Shape(of_tokens[0], start=0, end=1), op.Shape(of_tokens[0], start=1, end=2)
    padding = op.Expand(0, op.Concat(B, op.Mod(P, [2]), axis=0))  # CUDA has no Pad of integers
    return [op.Concat(op.Slice(x_BP, [-1], [-END], [1], [-1]), padding, axis=1) for x_BP in of_tokens]


def causal_mask(op: OpBuilder, padding_B11L: ir.Value, queries: ir.Value, dtype: ir.DataType) -> ir.Value:
    """[B, 1, queries, L]: added to the scores of the newest tokens, int64 [1]; rows beyond all tokens see the last."""
    of_key = op.Range(0, op.Squeeze(op.Shape(padding_B11L, start=3, end=4)), 1)
    of_query = op.Min(op.Unsqueeze(op.Range(0, op.Squeeze(queries), 1), [1]), op.Slice(of_key, [-1], [END], [0]))
    future = op.Where(op.Less(of_key, of_query), NEVER, 0.0)
    return op.Add(typed(op, future, dtype), padding_B11L)


def padding_mask(op: OpBuilder, attention_mask: ir.Value, dtype: ir.DataType) -> ir.Value:
    """[B, 1, 1, P], from int64 [B, P]."""
    padding_BP = typed(op, op.Where(op.Equal(attention_mask, 0), LOWEST[dtype], 0.0), dtype)
    return op.Unsqueeze(padding_BP, [1, 2])


def attend(
    op: OpBuilder,
    qkv: ir.Value,
    shapes: PrefillShapes,
    mask_B1PP: ir.Value,
    *,
    last_position: bool = False,
    past: PromptCache | None = None,
    L: ir.Value | None = None,
) -> tuple[ir.Value, PromptCache]:
    """Causal attention in one piece.

    Args:
        op: The operators of the graph that the prefill is in.
        qkv: [B * P, 3D].
        shapes: Of the heads.
        mask_B1PP: Added to the scores; of the last position [B, 1, 1, P].
        last_position: Attend from the newest token only.
        past: K and V that hold those of the tokens before.
        L: int64 [1], how many these are.

    Returns:
        [B * P, D], or [B, D] of the last positions, and the layer's PromptCache.
    """
    query, cache = _query_and_cache(op, qkv, shapes, past, L)
    if last_position:
        query = op.Slice(query, [0], [1], [2])  # [B, H, 1, d]
    context = _context(op, query, cache, mask_B1PP)
    return op.Reshape(op.Transpose(context, perm=[0, 2, 1, 3]), [-1, shapes.H * shapes.d]), cache


def attend_in_chunks(
    op: OpBuilder, qkv: ir.Value, shapes: PrefillShapes, mask_B1CL: ir.Value, chunks: Chunks, past: PromptCache | None
) -> tuple[ir.Value, PromptCache]:
    """The same, a chunk of positions after the other, each on what its newest token sees.

    Args:
        op: As `attend`, like what follows.
        qkv: [B * P, 3D].
        shapes: Of the heads.
        mask_B1CL: With a row for each position of the chunks, and a column for each token with or before them.
        chunks: How the positions are divided.
        past: K and V that hold those of the tokens before; None where nothing does.

    Returns:
        [B * P, D], and the PromptCache of all tokens.
    """
    query, cache = _query_and_cache(op, qkv, shapes, past, chunks.L)
    positions = chunks.positions(op)
    query = op.Pad(query, op.Concat([0], op.Sub(positions, chunks.P), axis=0), None, [2])

    def attend_chunk(op: OpBuilder, chunk: ir.Value, condition: ir.Value) -> list[ir.Value]:
        start = op.Mul(op.Unsqueeze(chunk, [0]), chunks.length)
        stop = op.Add(start, chunks.length)
        seen = tokens_from(op, cache, start, [END])
        mask = op.Slice(mask_B1CL, op.Concat(start, start, axis=0), op.Concat(stop, [END], axis=0), [2, 3])
        context = _context(op, op.Slice(query, start, stop, [2]), seen, mask)
        return [op.Identity(condition), context]

    inputs = [ir.val("chunk", _I64, []), ir.val("chunk_condition", _BOOL, [])]
    outputs = [
        ir.val("chunk_condition_out", _BOOL, []),
        ir.val("chunk_context", query.dtype, ["B", shapes.H, "chunk", shapes.d]),
    ]
    body = subgraph(op, attend_chunk, inputs, outputs)
    context = op.Loop(op.Squeeze(chunks.number), True, body=body, _outputs=1)  # [chunks, B, H, C, d]
    by_position = op.Transpose(context, perm=[1, 0, 3, 2, 4])
    D = shapes.H * shapes.d
    of_prompt = op.Concat(op.Shape(query, start=0, end=1), positions, [D], axis=0)
    return op.Reshape(op.Slice(op.Reshape(by_position, of_prompt), [0], chunks.P, [1]), [-1, D]), cache


def tokens_from(
    op: OpBuilder, cache: PromptCache, start: ir.Value | list[int], stop: ir.Value | list[int]
) -> PromptCache:
    """K and V of the tokens from one on, and before another; int64 [1] each, counted from the newest."""
    return PromptCache(op.Slice(cache.key_BHdP, start, stop, [3]), op.Slice(cache.value_BHPd, start, stop, [2]))


def padded(op: OpBuilder, cache: PromptCache, tokens: ir.Value) -> PromptCache:
    """The oldest K and V as a prefill leaves them: a 0 behind them where the number of tokens, int64 [1], is odd."""
    odd = op.Concat([0], op.Mod(tokens, [2]), axis=0)
    return PromptCache(op.Pad(cache.key_BHdP, odd, None, [3]), op.Pad(cache.value_BHPd, odd, None, [2]))


def _query_and_cache(
    op: OpBuilder, qkv: ir.Value, shapes: PrefillShapes, past: PromptCache | None, L: ir.Value | None
) -> tuple[ir.Value, PromptCache]:
    """Queries [B, H, P, d] of the tokens, and K and V of these and of those before them, padded to an even number."""
    by_head = op.Transpose(op.Reshape(qkv, shapes.BP3Hd), perm=[0, 2, 1, 3])
    query, key, value = op.Split(by_head, axis=1, num_outputs=3, _outputs=3)  # [B, H, P, d]
    key_BHdP = op.Transpose(key, perm=[0, 1, 3, 2])
    if past is None or L is None:
        return query, PromptCache(key_BHdP, value)
    of_each_prompt = op.Concat(op.Shape(key, start=0, end=1), [1, 1, 1], axis=0)
    before = padded(op, tokens_from(op, past, [0], L), op.Add(op.Shape(key, start=2, end=3), L))
    key_BHdL, value_BHLd = (op.Expand(x, of_each_prompt) for x in before)
    return query, PromptCache(op.Concat(key_BHdP, key_BHdL, axis=3), op.Concat(value, value_BHLd, axis=2))


def _context(op: OpBuilder, query: ir.Value, cache: PromptCache, mask: ir.Value) -> ir.Value:
    """[B, H, P, d]."""
    scores = op.Add(op.MatMul(query, cache.key_BHdP), mask)
    return op.MatMul(op.Softmax(scores, axis=-1), cache.value_BHPd)
