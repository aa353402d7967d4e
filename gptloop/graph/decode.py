"""One decode step: each row's newest token through the layers, and the token that comes next.

Made of this are the Loop's body (loop.py), the step that is driven from outside (variants/step.py) and, in part, the
flavors for a GPU (variants/lean_steps.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import attention
from gptloop.graph.attention import DecodeShapes, GeneratedCache
from gptloop.graph.call import Call, per_row
from gptloop.graph.prefill import Prompts
from gptloop.graph.rules import Rules
from gptloop.graph.scope import typed
from gptloop.graph.stop import Stopped
from gptloop.graph.transformer import Attend, Transformer


class Handed(NamedTuple):
    """What every step reads and none changes."""

    rules: Rules
    prompts: Prompts
    shapes: DecodeShapes
    lengths_S: ir.Value  # int64, of the prompts and what earlier calls have read behind them, without padding
    P: ir.Value  # int64 [1], tokens of each prompt that have K and V

    @classmethod
    def of(cls, op: OpBuilder, transformer: Transformer, rules: Rules, prompts: Prompts, call: Call) -> Handed:
        """What a call hands to its steps."""
        shapes = DecodeShapes.of(op, call.B, call.R, transformer.n_head, transformer.head_dim)
        before_B1 = op.Add(prompts.lengths_B1, call.steps_done(op)) if call.G else prompts.lengths_B1
        return cls(rules, prompts, shapes, op.Squeeze(per_row(op, call, before_B1), [1]), prompts.tokens(op))


class Carried(NamedTuple):
    """What every step reads and replaces."""

    token_S: ir.Value  # int64, the newest of each row
    tokens_ST: ir.Value  # int64, all of each row so far
    ended_S: ir.Value  # bool
    caches: list[GeneratedCache]  # by layer


def no_caches(op: OpBuilder, transformer: Transformer, call: Call) -> list[GeneratedCache]:
    """Every layer's K and V of no generated token, [B, H, R, 0, d]."""
    shape = op.Concat(call.B, [transformer.n_head], call.R, [0, transformer.head_dim], axis=0)
    nothing = typed(op, op.Expand(0.0, shape), transformer.dtype)
    return [GeneratedCache(nothing, nothing)] * transformer.n_layer


def one_token(
    op: OpBuilder,
    transformer: Transformer,
    handed: Handed,
    past: Carried,
    earlier: Sequence[GeneratedCache] | None,
    *,
    step: ir.Value,
    positions_S: ir.Value,
    split: ir.Value,
) -> tuple[Carried, Stopped]:
    """Decode one token per row.

    Args:
        op: The operators of the graph that the step is in.
        transformer: The layers.
        handed: What the call hands to its steps.
        past: What the step before left.
        earlier: K and V that no longer grow, by layer; None where there are none.
        step: int64 [], the number of the token that is drawn; the first of all is 0.
        positions_S: int64, of the tokens that are read.
        split: As `attention.decode`.

    Returns:
        What this step leaves, and what it has drawn.
    """
    x = transformer.embed(op, past.token_S, positions_S)  # [S, D]
    presents: list[GeneratedCache] = []
    attend = appending(op, handed.prompts, earlier, past.caches, handed.shapes, split, presents)
    logits_SV = transformer.logits(op, x, attend)
    stopped = handed.rules.step(op, logits_SV, step, past.ended_S, (past.tokens_ST,))
    token_S = stopped.drawn.token
    tokens_ST = op.Concat(past.tokens_ST, op.Unsqueeze(token_S, [1]), axis=1)
    return Carried(token_S, tokens_ST, stopped.ended_S, presents), stopped


def appending(
    op: OpBuilder,
    prompts: Prompts,
    earlier: Sequence[GeneratedCache] | None,
    past: Sequence[GeneratedCache | None],
    shapes: DecodeShapes,
    split: ir.Value,
    presents: list[GeneratedCache],
) -> Attend:
    """Attention that appends each layer's K and V to its cache.

    Args:
        op: The operators of the graph that the step is in.
        prompts: From the outer scope, like `shapes`.
        earlier: K and V that no longer grow, by layer; None where there are none.
        past: K and V that grow, by layer, None where nothing is yet.
        shapes: Of one new token per row.
        split: As `attention.decode`.
        presents: What `past` becomes is added here, layer by layer as they attend.
    """

    def attend(layer: int, qkv: ir.Value) -> ir.Value:
        before = earlier[layer] if earlier else None
        context, present = attention.decode(
            op, qkv, prompts.caches[layer], prompts.padding_B11P, before, past[layer], shapes, split
        )
        presents.append(present)
        return context

    return attend
