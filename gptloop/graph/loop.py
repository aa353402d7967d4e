"""The steps: the first token from the prefill's logits, then the standard Loop, one new token per row and trip.

The Loop's carried values are the last token, the tokens so far (in the end, the result), which rows have ended, and
every layer's GeneratedCache, which starts empty. The prompts' K and V, the weights, the uniform numbers and the
settings are read from the outer scope.

Source: ONNX operator Loop, opset 21.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import attention, sampling
from gptloop.graph.attention import GeneratedCache
from gptloop.graph.call import Call, per_row
from gptloop.graph.prefill import Prompts
from gptloop.graph.processors import Processors
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches, scope, subgraph, typed
from gptloop.graph.stop import Stop, Stopped
from gptloop.graph.transformer import Transformer


class Rules(NamedTuple):
    """How a call samples, and when it stops."""

    uniforms_NS1: ir.Value  # float32
    settings: sampling.Settings
    stop: Stop
    prompt_SP: ir.Value  # int64, the prompt's tokens, padding replaced by one of them
    repetition_penalty: ir.Value  # float32 [1]
    penalized: ir.Value  # bool []
    min_new_tokens: ir.Value  # int64 [], 0 without an end of text

    def step(
        self, op: OpBuilder, logits_SV: ir.Value, step: ir.Value, ended_S: ir.Value, generated: tuple[ir.Value, ...]
    ) -> Stopped:
        """Draw the token of a step (int64 [], from 0), given what the rows have generated, int64 [S, T] if anything."""
        processors = Processors(
            penalty=self.repetition_penalty,
            penalized=self.penalized,
            seen=(self.prompt_SP, *generated),
            early=op.Less(step, self.min_new_tokens),
            eos_token_ids=self.stop.eos_token_ids,
        )
        uniform_S1 = op.Gather(self.uniforms_NS1, step, axis=0)
        drawn = sampling.sample(op, logits_SV, uniform_S1, self.settings, processors)
        return self.stop.apply(op, drawn, ended_S)


def generate(
    op: OpBuilder, transformer: Transformer, logits_BV: ir.Value, prompts: Prompts, rules: Rules, call: Call
) -> Drawn:
    """Generate all tokens.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        logits_BV: After the prompts.
        prompts: What the decode steps read of them.
        rules: How to sample and stop.
        call: The call's sizes.

    Returns:
        Tokens int64 and log-probabilities float32, [S, N] each.
    """
    with scope(op, "first"):
        none_ended_S = op.Expand(False, op.Mul(call.B, call.R))
        first = rules.step(op, per_row(op, call, logits_BV), op.Squeeze([0]), none_ended_S, ())
    trips = op.Sub(op.Squeeze(call.N), 1)
    tokens_SN, *scanned_TS = _decode(op, transformer, first, prompts, rules, call, trips)

    def with_later(op: OpBuilder) -> list[ir.Value]:
        pairs = zip(first.drawn[1:], scanned_TS, strict=True)
        logprobs_NS = [op.Concat(op.Unsqueeze(first_S, [0]), later_TS, axis=0) for first_S, later_TS in pairs]
        return [op.Identity(tokens_SN), *(op.Transpose(x, perm=[1, 0]) for x in logprobs_NS)]

    def first_alone(op: OpBuilder) -> list[ir.Value]:
        return [op.Unsqueeze(x_S, [1]) for x_S in first.drawn]

    # Runtimes differ in what a Loop of no trips returns: scan outputs of [0, 0] (ONNX Runtime), those of the last call
    # (OpenVINO 2026.4, where the carried values' are wrong, too).
    outputs = [(dtype, ["S", "N"]) for dtype in (ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.FLOAT)]
    return Drawn(*branches(op, op.And(first.go_on, op.Greater(trips, 0)), with_later, first_alone, outputs))


def _decode(
    op: OpBuilder,
    transformer: Transformer,
    first: Stopped,
    prompts: Prompts,
    rules: Rules,
    call: Call,
    trips: ir.Value,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """The Loop, after the first token: all tokens [S, N], and the log-probabilities of the later ones, [trips, S]."""
    H, d = transformer.n_head, transformer.head_dim
    shapes = attention.DecodeShapes(
        D=transformer.n_embd,
        BR3Hd=op.Concat(call.B, call.R, [3, H, d], axis=0),
        BHRd=op.Concat(call.B, [H], call.R, [d], axis=0),
        BHR1d=op.Concat(call.B, [H], call.R, [1, d], axis=0),
    )
    lengths_S = op.Squeeze(per_row(op, call, prompts.lengths_B1), [1])

    def decode_one_token(
        op: OpBuilder,
        iteration: ir.Value,
        condition: ir.Value,
        token_S: ir.Value,
        generated_ST: ir.Value,
        ended_S: ir.Value,
        *carried: ir.Value,
    ) -> list[ir.Value]:
        step = op.Add(iteration, 1)  # also T, the token that is embedded included
        split_PT = op.Concat(call.P, op.Unsqueeze(step, [0]), axis=0)
        x = transformer.embed(op, token_S, op.Add(lengths_S, iteration))  # [S, D]
        presents: list[GeneratedCache] = []

        def attend(qkv: ir.Value) -> ir.Value:
            layer = len(presents)
            past = GeneratedCache(*carried[2 * layer : 2 * layer + 2])
            context, present = attention.decode(op, qkv, prompts.caches[layer], prompts.mask, past, shapes, split_PT)
            presents.append(present)
            return context

        for layer in range(transformer.n_layer):
            x = transformer.block(op, layer, x, attend)
        stopped = rules.step(op, transformer.lm_head(op, x), step, ended_S, (generated_ST,))
        token_S = stopped.drawn.token
        generated_ST = op.Concat(generated_ST, op.Unsqueeze(token_S, [1]), axis=1)
        keys_and_values = [kv for present in presents for kv in present]
        return [stopped.go_on, token_S, generated_ST, stopped.ended_S, *keys_and_values, *stopped.drawn[1:]]

    nothing_yet = typed(op, op.Expand(0.0, op.Concat(call.B, [H], call.R, [0, d], axis=0)), transformer.dtype)
    token_S = first.drawn.token
    carried = [token_S, op.Unsqueeze(token_S, [1]), first.ended_S, *[nothing_yet] * 2 * transformer.n_layer]
    body = subgraph(op, decode_one_token, *_body_signature(transformer))
    _, tokens_SN, *_, logprobs_TS, raw_logprobs_TS = op.Loop(
        trips, first.go_on, *carried, body=body, _outputs=len(carried) + 2
    )
    return tokens_SN, logprobs_TS, raw_logprobs_TS


def _body_signature(transformer: Transformer) -> tuple[list[ir.Value], list[ir.Value]]:
    """The body's inputs and outputs: names, types and shapes."""
    i64, f32, boolean = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL
    H, d, dtype = transformer.n_head, transformer.head_dim, transformer.dtype
    names = [f"{kind}.{layer}" for layer in range(transformer.n_layer) for kind in ("key", "value")]
    inputs = [
        ir.val("iteration", i64, []),
        ir.val("condition", boolean, []),
        ir.val("token_past", i64, ["S"]),
        ir.val("generated_past", i64, ["S", "T"]),
        ir.val("ended_past", boolean, ["S"]),
        *(ir.val(f"past_{name}", dtype, ["B", H, "R", "T - 1", d]) for name in names),
    ]
    outputs = [
        ir.val("condition_out", boolean, []),
        ir.val("token_present", i64, ["S"]),
        ir.val("generated_present", i64, ["S", "T + 1"]),
        ir.val("ended_present", boolean, ["S"]),
        *(ir.val(f"present_{name}", dtype, ["B", H, "R", "T", d]) for name in names),
        ir.val("logprob", f32, ["S"]),
        ir.val("raw_logprob", f32, ["S"]),
    ]
    return inputs, outputs
