"""The standard Loop: one new token per row and trip.

Its carried values are the last token and every layer's GeneratedCache, which starts empty; the prompts' K and V, the
weights, the uniform numbers and the settings are read from the outer scope.

Source: ONNX operator Loop, opset 21.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import attention, sampling
from gptloop.graph.attention import GeneratedCache, PromptCache
from gptloop.graph.call import Call
from gptloop.graph.scope import subgraph
from gptloop.graph.transformer import Transformer


def decode(
    op: OpBuilder,
    transformer: Transformer,
    first_S: ir.Value,
    prompts: Sequence[PromptCache],
    uniforms_NS1: ir.Value,
    settings: sampling.Settings,
    call: Call,
) -> ir.Value:
    """Generate the tokens after the first.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        first_S: int64 [S], the first new token of each row.
        prompts: Every layer's PromptCache.
        uniforms_NS1: float32 [N, S, 1].
        settings: How to sample.
        call: The call's sizes.

    Returns:
        int64 [N - 1, S].
    """
    H, d = transformer.n_head, transformer.head_dim
    shapes = attention.DecodeShapes(
        D=transformer.n_embd,
        BR3Hd=op.Concat(call.B, call.R, [3, H, d], axis=0),
        BHRd=op.Concat(call.B, [H], call.R, [d], axis=0),
        BHR1d=op.Concat(call.B, [H], call.R, [1, d], axis=0),
    )

    def decode_one_token(
        op: OpBuilder, iteration: ir.Value, condition: ir.Value, token_S: ir.Value, *carried: ir.Value
    ) -> list[ir.Value]:
        new_len_1 = op.Unsqueeze(op.Add(iteration, 1), [0])  # T, this token included
        split_PT = op.Concat(call.P, new_len_1, axis=0)
        x = transformer.embed(op, token_S, op.Add(call.P, iteration))  # [S, D]
        presents: list[GeneratedCache] = []

        def attend(qkv: ir.Value) -> ir.Value:
            layer = len(presents)
            past = GeneratedCache(*carried[2 * layer : 2 * layer + 2])
            context, present = attention.decode(op, qkv, prompts[layer], past, shapes, split_PT)
            presents.append(present)
            return context

        for layer in range(transformer.n_layer):
            x = transformer.block(op, layer, x, attend)
        uniform_S1 = op.Gather(uniforms_NS1, op.Squeeze(new_len_1), axis=0)
        token_S = sampling.sample(op, transformer.lm_head(op, x), uniform_S1, settings)
        keys_and_values = [kv for present in presents for kv in present]
        return [op.Identity(condition), token_S, *keys_and_values, op.Identity(token_S)]

    nothing_yet = op.Expand(0.0, op.Concat(call.B, [H], call.R, [0, d], axis=0))
    caches = [nothing_yet] * 2 * transformer.n_layer
    trips = op.Sub(op.Squeeze(call.N), 1)
    body = subgraph(op, decode_one_token, *_body_signature(transformer))
    *_, tokens = op.Loop(trips, True, first_S, *caches, body=body, _outputs=len(caches) + 2)
    # A Loop of no trips cannot know S: its scan output is [0, 0] in ONNX Runtime.
    return op.Reshape(tokens, op.Concat(op.Sub(call.N, [1]), op.Mul(call.B, call.R), axis=0), allowzero=1)


def _body_signature(transformer: Transformer) -> tuple[list[ir.Value], list[ir.Value]]:
    """The body's inputs and outputs: names, types and shapes."""
    i64, f32, boolean = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL
    H, d = transformer.n_head, transformer.head_dim
    names = [f"{kind}.{layer}" for layer in range(transformer.n_layer) for kind in ("key", "value")]
    inputs = [
        ir.val("iteration", i64, []),
        ir.val("condition", boolean, []),
        ir.val("token_past", i64, ["S"]),
        *(ir.val(f"past_{name}", f32, ["B", H, "R", "T", d]) for name in names),
    ]
    outputs = [
        ir.val("condition_out", boolean, []),
        ir.val("token_present", i64, ["S"]),
        *(ir.val(f"present_{name}", f32, ["B", H, "R", "T + 1", d]) for name in names),
        ir.val("token", i64, ["S"]),
    ]
    return inputs, outputs
