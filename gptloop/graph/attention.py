"""How rows attend while decoding, in two parts: on their prompt, and on what they have generated.

Knows shapes and the KV cache, not weights. The 1 / sqrt(d) of the scores is not here: it is folded into the query's
weights at export (gptloop.exporter).

Prompts stand last in a row of scores, their tokens from the newest to the oldest, so that padding on the left is behind
all else and changes no bit: ONNX Runtime (MLAS, x64) sums from left to right, in vectors and blocks that are counted
from the left, and zeros at the end leave the sums as they are. But a product of a single row takes four terms at once,
and rounds differently where three are left over. Hence prompts have K and V of an even number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

NEVER = float("-inf")
# Unlike -inf they leave a row that sees nothing else a softmax: the least number, or where adding a score to it would
# overflow (from 16 below the least float16), half of it.
LOWEST = {
    ir.DataType.FLOAT: -3.4028234663852886e38,
    ir.DataType.FLOAT16: -32768.0,
    ir.DataType.BFLOAT16: -3.3895313892515355e38,
}


class PromptCache(NamedTuple):
    """One layer's K and V of the prompts, the newest token first.

    Computed once, read by every decode step, never copied per candidate.
    """

    key_BHdP: ir.Value
    value_BHPd: ir.Value


class GeneratedCache(NamedTuple):
    """One layer's K and V of what each row has generated, or of a part of it: carried by a Loop."""

    key_BHRTd: ir.Value
    value_BHRTd: ir.Value


class DecodeShapes(NamedTuple):
    """The shapes of one new token per row; what depends on the call is computed once, in the outer graph."""

    BR3Hd: ir.Value  # int64 [4], as `heads_shape` gives it
    H: int
    d: int

    @classmethod
    def of(cls, op: OpBuilder, B: ir.Value, R: ir.Value, n_head: int, head_dim: int) -> DecodeShapes:
        """From B and R, int64 [1] each."""
        return cls(heads_shape(op, B, R, n_head, head_dim), n_head, head_dim)


def heads_shape(op: OpBuilder, B: ir.Value, L: ir.Value, n_head: int, head_dim: int) -> ir.Value:
    """int64 [4]: B, L, 3H, d, from B and L, int64 [1] each; L is P of the prompts, R of the rows."""
    return op.Concat(B, L, [3 * n_head, head_dim], axis=0)


def decode(
    op: OpBuilder,
    qkv: ir.Value,
    prompt: PromptCache,
    padding_B11P: ir.Value,
    earlier: GeneratedCache | None,
    past: GeneratedCache | None,
    shapes: DecodeShapes,
    split: ir.Value,
) -> tuple[ir.Value, GeneratedCache]:
    """Attention of one new token per row on its prompt and on what its row has generated.

    Bifurcated attention (Athiwaratkun et al., 2024, arXiv:2403.08845): the R candidates of a prompt meet its K and V in
    one matrix product each, and their own in R small ones; the two blocks of scores share one softmax.

    Args:
        op: The body's operators.
        qkv: [S, 3D].
        prompt: This layer's, from the outer scope.
        padding_B11P: Added to scores on the prompts: 0, or at padding a number that leaves no probability; from the
            outer scope.
        earlier: This layer's that no longer grows, from the outer scope; None where there is none.
        past: This layer's that grows, carried; None where nothing is.
        shapes: From the outer scope.
        split: int64 [2] or, with an earlier cache, [3]: the earlier cache's length, that of the growing one including
            this token, and P.

    Returns:
        [S, D], and the growing cache with this token appended.
    """
    query_BHR1d, key_BHRTd, value_BHRTd = _one_token(op, qkv, shapes)
    if past:
        key_BHRTd = op.Concat(past.key_BHRTd, key_BHRTd, axis=3)
        value_BHRTd = op.Concat(past.value_BHRTd, value_BHRTd, axis=3)

    present = GeneratedCache(key_BHRTd, value_BHRTd)
    generated = [earlier, present] if earlier else [present]

    scores = [_own_scores(op, query_BHR1d, cache) for cache in generated]
    scores.append(_prompt_scores(op, query_BHR1d, prompt, padding_B11P))
    probs = op.Softmax(op.Concat(*scores, axis=-1), axis=-1)

    *probs, prompt_probs = op.Split(probs, split, axis=-1, _outputs=len(generated) + 1)
    contexts = [op.MatMul(own, cache.value_BHRTd) for own, cache in zip(probs, generated, strict=True)]
    contexts.append(_prompt_context(op, prompt_probs, prompt))
    return _merge_heads(op, contexts, shapes), present


def decode_in_place(
    op: OpBuilder,
    qkv: ir.Value,
    prompt: PromptCache,
    padding_B11P: ir.Value,
    past: GeneratedCache,
    shapes: DecodeShapes,
    split_TP: ir.Value,
    own_T: ir.Value,
    unseen_T: ir.Value,
) -> tuple[ir.Value, GeneratedCache]:
    """`decode` with a cache that has its full length T from the start: no shape depends on the step.

    Args:
        op: As `decode`, like what follows.
        qkv: [S, 3D].
        prompt: This layer's.
        padding_B11P: Of the prompts.
        past: This layer's, [B, H, R, T, d], of which this token overwrites one place.
        shapes: From the outer scope.
        split_TP: int64 [2], T and P, from the outer scope.
        own_T: bool, True at this token's place.
        unseen_T: 0 up to this token's place, NEVER behind it.

    Returns:
        [S, D], and the cache with this token in its place.
    """
    query_BHR1d, key_BHR1d, value_BHR1d = _one_token(op, qkv, shapes)
    own_T1 = op.Unsqueeze(own_T, [1])
    present = GeneratedCache(
        op.Where(own_T1, key_BHR1d, past.key_BHRTd), op.Where(own_T1, value_BHR1d, past.value_BHRTd)
    )
    scores = [
        op.Add(_own_scores(op, query_BHR1d, present), unseen_T),
        _prompt_scores(op, query_BHR1d, prompt, padding_B11P),
    ]
    probs = op.Softmax(op.Concat(*scores, axis=-1), axis=-1)

    probs, prompt_probs = op.Split(probs, split_TP, axis=-1, _outputs=2)
    contexts = [op.MatMul(probs, present.value_BHRTd), _prompt_context(op, prompt_probs, prompt)]
    return _merge_heads(op, contexts, shapes), present


def _one_token(op: OpBuilder, qkv: ir.Value, shapes: DecodeShapes) -> tuple[ir.Value, ir.Value, ir.Value]:
    """[S, 3D] -> query, key, value of one position, each [B, H, R, 1, d].

    The 1 comes in by a Reshape on purpose: ONNX Runtime moves the Transpose before it into all it can, the Split behind
    an Unsqueeze included, and then runs three of them.
    """
    by_head = op.Transpose(op.Reshape(qkv, shapes.BR3Hd), perm=[0, 2, 1, 3])
    heads = op.Reshape(by_head, [0, 3 * shapes.H, -1, 1, shapes.d])
    query, key, value = op.Split(heads, axis=1, num_outputs=3, _outputs=3)
    return query, key, value


def _prompt_scores(op: OpBuilder, query_BHR1d: ir.Value, prompt: PromptCache, padding_B11P: ir.Value) -> ir.Value:
    """[B, H, R, 1, P]: the rows of a prompt in one product."""
    scores_BHRP = op.MatMul(op.Squeeze(query_BHR1d, [3]), prompt.key_BHdP)
    return op.Unsqueeze(op.Add(scores_BHRP, padding_B11P), [3])


def _own_scores(op: OpBuilder, query_BHR1d: ir.Value, cache: GeneratedCache) -> ir.Value:
    """[B, H, R, 1, T]. A runtime multiplies by the transpose without making it."""
    return op.MatMul(query_BHR1d, op.Transpose(cache.key_BHRTd, perm=[0, 1, 2, 4, 3]))


def _prompt_context(op: OpBuilder, probs_BHR1P: ir.Value, prompt: PromptCache) -> ir.Value:
    """[B, H, R, 1, d]."""
    return op.Unsqueeze(op.MatMul(op.Squeeze(probs_BHR1P, [3]), prompt.value_BHPd), [3])


def _merge_heads(op: OpBuilder, contexts_BHR1d: Sequence[ir.Value], shapes: DecodeShapes) -> ir.Value:
    """Their sum, as [S, D]."""
    merged = op.Transpose(op.Sum(*contexts_BHR1d), perm=[0, 2, 1, 3, 4])
    return op.Reshape(merged, [-1, shapes.H * shapes.d])
