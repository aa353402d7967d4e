"""A decode step without switches, and the steps one after another: in a Loop, or written out.

What a step needs stays on the device: no condition is computed from tokens, no length is asked for. Knows the same
modules as gptloop.graph.decode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import attention, decode
from gptloop.graph.attention import DecodeShapes, GeneratedCache
from gptloop.graph.call import Call
from gptloop.graph.inverse_cdf import inverse_cdf
from gptloop.graph.logits import Logits
from gptloop.graph.prefill import Prompts
from gptloop.graph.scope import GROWS, scope, subgraph, typed
from gptloop.graph.transformer import Attend, Transformer

_I64, _BOOL = ir.DataType.INT64, ir.DataType.BOOL


class Draw(NamedTuple):
    """What turns logits into tokens."""

    uniforms_NS1: ir.Value  # float32
    temperature_S1: ir.Value  # float32, above 0
    top_k_1: ir.Value  # int64

    def token(self, op: OpBuilder, logits_SV: Logits, step: ir.Value | int) -> ir.Value:
        """The rule of gptloop.graph.sampling with nothing but a temperature and one top_k: int64 [S, 1]."""
        values_SK, ids_SK = op.TopK(logits_SV.scaled(op), self.top_k_1, largest=1, sorted=1, _outputs=2)
        ids_SK, order_SK = op.TopK(ids_SK, self.top_k_1, largest=0, sorted=1, _outputs=2)
        values_SK = op.GatherElements(values_SK, order_SK, axis=1)
        probs_SK = op.Softmax(op.Div(values_SK, self.temperature_S1), axis=-1)
        uniform_S1 = op.Gather(self.uniforms_NS1, step, axis=0)
        return op.GatherElements(ids_SK, inverse_cdf(op, probs_SK, uniform_S1), axis=1)


class Steps(NamedTuple):
    """What every step reads: the layers and the outer graph's values."""

    transformer: Transformer
    prompts: Prompts
    shapes: DecodeShapes
    draw: Draw

    def appending(
        self,
        op: OpBuilder,
        past: Sequence[GeneratedCache | None],
        split_TP: ir.Value,
        presents: list[GeneratedCache],
    ) -> Attend:
        """`decode.appending` with nothing earlier."""
        return decode.appending(op, self.prompts, None, past, self.shapes, split_TP, presents)

    def logits(self, op: OpBuilder, token_S: ir.Value, position_S: ir.Value, attend: Attend) -> Logits:
        """Logits [S, V] after one token per row."""
        return self.transformer.logits(op, self.transformer.embed(op, token_S, position_S), attend)


def _write(
    op: OpBuilder,
    steps: Steps,
    past: list[GeneratedCache],
    split_NP: ir.Value,
    places_N: ir.Value,
    step: ir.Value,
    presents: list[GeneratedCache],
) -> Attend:
    """Attention that writes K and V into their place, and notes what the caches have become."""
    own_N = op.Equal(places_N, op.Sub(step, 1))
    unseen_N = typed(op, op.Where(op.Less(places_N, step), 0.0, attention.NEVER), steps.transformer.dtype)

    def attend(layer: int, qkv: ir.Value) -> ir.Value:
        prompt, padding = steps.prompts.caches[layer], steps.prompts.padding_B11P
        context, present = attention.decode_in_place(
            op, qkv, prompt, padding, past[layer], steps.shapes, split_NP, own_N, unseen_N
        )
        presents.append(present)
        return context

    return attend


def unrolled(op: OpBuilder, steps: Steps, token_S1: ir.Value, position_S: ir.Value, max_new_tokens: int) -> ir.Value:
    """Every step written out: tokens [S, N]."""
    tokens, P = [token_S1], steps.prompts.tokens(op)
    caches: list[GeneratedCache | None] = [None] * steps.transformer.n_layer
    for step in range(1, max_new_tokens):
        presents: list[GeneratedCache] = []
        with scope(op, f"step.{step}"):
            position_now_S = op.Add(position_S, step - 1)
            attend = steps.appending(op, caches, op.Concat([step], P, axis=0), presents)
            logits_SV = steps.logits(op, op.Squeeze(tokens[-1], [1]), position_now_S, attend)
            tokens.append(steps.draw.token(op, logits_SV, step))
        caches = [*presents]
    return op.Concat(*tokens, axis=1)


def looped(
    op: OpBuilder, steps: Steps, token_S1: ir.Value, position_S: ir.Value, call: Call, *, fixed: bool
) -> ir.Value:
    """The Loop, K and V of full length or growing: tokens [S, N]."""
    transformer = steps.transformer
    H, d = transformer.n_head, transformer.head_dim
    places_N = op.Range(0, op.Squeeze(call.N), 1)
    # The last token of all is never embedded, but a cache of no length would be a shape that operators rarely meet.
    length = call.N if fixed else [0]
    split_NP = op.Concat(call.N, steps.prompts.tokens(op), axis=0) if fixed else None
    empty = typed(op, op.Expand(0.0, op.Concat(call.B, [H], call.R, length, [d], axis=0)), transformer.dtype)
    nothing_SN = op.Expand(0, op.Concat(op.Shape(token_S1, end=1), call.N, axis=0))
    tokens_SN = op.Where(op.Equal(places_N, 0), token_S1, nothing_SN)
    first_step, always = (op.builder.initializer(ir.tensor(x), f"const_{x}".lower()) for x in (1, True))
    carried = [op.Squeeze(token_S1, [1]), position_S, first_step, tokens_SN, *[empty] * 2 * transformer.n_layer]
    body = subgraph(op, _Body(steps, places_N, split_NP).decode_one_token, *_body_signature(transformer, fixed))
    trips = op.Sub(op.Squeeze(call.N), 1)
    outputs = op.Loop(trips, always, *carried, body=body, _outputs=len(carried))
    return outputs[3]


class _Body(NamedTuple):
    """What the Loop's body reads."""

    steps: Steps
    places_N: ir.Value  # int64, 0 to N - 1
    split_NP: ir.Value | None  # int64 [2], the lengths of the steps' K and V, if that is fixed, and of the prompts'

    def decode_one_token(
        self,
        op: OpBuilder,
        iteration: ir.Value,
        condition: ir.Value,
        token_S: ir.Value,
        position_S: ir.Value,
        step: ir.Value,
        tokens_SN: ir.Value,
        *carried: ir.Value,
    ) -> list[ir.Value]:
        """The Loop's body."""
        steps = self.steps
        past = [GeneratedCache(*pair) for pair in zip(carried[::2], carried[1::2], strict=True)]
        presents: list[GeneratedCache] = []
        if self.split_NP is not None:
            attend = _write(op, steps, past, self.split_NP, self.places_N, step, presents)
        else:
            # Read from shapes that the body sees: those a GPU's runtime computes with on the CPU, and need not ask for.
            P = op.Shape(steps.prompts.caches[0].key_BHdP, start=3, end=4)
            T = op.Add(op.Shape(past[0].key_BHRTd, start=3, end=4), [1])
            attend = steps.appending(op, past, op.Concat(T, P, axis=0), presents)
        logits_SV = steps.logits(op, token_S, position_S, attend)
        token_S1 = steps.draw.token(op, logits_SV, step)
        tokens_SN = op.Where(op.Equal(self.places_N, step), token_S1, tokens_SN)
        keys_and_values = [kv for present in presents for kv in present]
        token_S = op.Squeeze(token_S1, [1])
        # True, computed from a shape, which is on the CPU, where the Loop reads it. The condition handed on by Identity
        # would go to the GPU and back.
        go_on = op.Squeeze(op.Greater(op.Shape(token_S, start=0, end=1), 0))
        return [go_on, token_S, op.Add(position_S, 1), op.Add(step, 1), tokens_SN, *keys_and_values]


def _body_signature(transformer: Transformer, fixed: bool) -> tuple[list[ir.Value], list[ir.Value]]:
    H, d, dtype = transformer.n_head, transformer.head_dim, transformer.dtype
    caches = [f"{kind}.{layer}" for layer in range(transformer.n_layer) for kind in ("key", "value")]

    def values(when: str, length: str | None) -> list[ir.Value]:
        return [
            ir.val(f"token_{when}", _I64, ["S"]),
            ir.val(f"position_{when}", _I64, ["S"]),
            ir.val(f"step_{when}", _I64, []),
            ir.val(f"tokens_{when}", _I64, ["S", "N"]),
            *(ir.val(f"{when}_{name}", dtype, ["B", H, "R", length, d]) for name in caches),
        ]

    return (
        [ir.val("iteration", _I64, []), ir.val("condition", _BOOL, []), *values("past", "N" if fixed else GROWS)],
        [ir.val("condition_out", _BOOL, []), *values("present", "N" if fixed else GROWS)],
    )
