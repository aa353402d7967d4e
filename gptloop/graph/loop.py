"""The steps: the first token from the prefill's logits, then the standard Loop, one new token per row and trip.

A Loop copies what it carries whenever that grows, so the steps stand in two Loops: the inner one runs a block of steps
and carries the block's own K and V only, and the outer one appends them to those of the blocks before, which no step
copies. Both carry the last token, the tokens so far (in the end, the result) and which rows have ended. The prompts'
K and V, the uniform numbers and the settings are read from the outer scope.

Source: ONNX operator Loop, opset 21.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from gptloop.graph.weights import Repeated

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


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
    op: OpBuilder,
    transformer: Transformer,
    logits_BV: ir.Value,
    prompts: Prompts,
    rules: Rules,
    call: Call,
    repeated: Repeated | None = None,
) -> Drawn:
    """Generate all tokens.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        logits_BV: After the prompts.
        prompts: What the decode steps read of them.
        rules: How to sample and stop.
        call: The call's sizes.
        repeated: The weights that the steps read, to be stored in the outer Loop's body; the transformer's own unless
            given.

    Returns:
        Tokens int64 and log-probabilities float32, [S, N] each.
    """
    with scope(op, "first"):
        none_ended_S = op.Expand(False, op.Mul(call.B, call.R))
        first = rules.step(op, per_row(op, call, logits_BV), op.Squeeze([0]), none_ended_S, ())
    trips = op.Sub(op.Squeeze(call.N), 1)
    decoded = _decode(op, transformer, first, prompts, rules, call, trips, repeated)

    def with_later(op: OpBuilder) -> list[ir.Value]:
        tokens_SN, *logprobs_NS = decoded
        return [op.Identity(tokens_SN), *(op.Transpose(x, perm=[1, 0]) for x in logprobs_NS)]

    def first_alone(op: OpBuilder) -> list[ir.Value]:
        return [op.Unsqueeze(x_S, [1]) for x_S in first.drawn]

    # OpenVINO's Loop of no trips does not return the carried values' initial ones (2026.4).
    outputs = [(dtype, ["S", "N"]) for dtype in (_I64, _F32, _F32)]
    return Drawn(*branches(op, op.And(first.go_on, op.Greater(trips, 0)), with_later, first_alone, outputs))


def _decode(
    op: OpBuilder,
    transformer: Transformer,
    first: Stopped,
    prompts: Prompts,
    rules: Rules,
    call: Call,
    trips: ir.Value,
    repeated: Repeated | None,
) -> Drawn:
    """The Loop over blocks, after the first token: all tokens [S, N], and their log-probabilities [N, S]."""
    H, d = transformer.n_head, transformer.head_dim
    shapes = attention.DecodeShapes.of(op, call.B, call.R, H, d)
    lengths_S = op.Squeeze(per_row(op, call, prompts.lengths_B1), [1])
    nothing_yet = typed(op, op.Expand(0.0, op.Concat(call.B, [H], call.R, [0, d], axis=0)), transformer.dtype)
    no_caches = [nothing_yet] * 2 * transformer.n_layer
    blocks = Blocks.of(op, trips)

    def decode_block(
        op: OpBuilder,
        block: ir.Value,
        condition: ir.Value,
        token_S: ir.Value,
        generated_ST: ir.Value,
        ended_S: ir.Value,
        logprobs_TS: ir.Value,
        raw_logprobs_TS: ir.Value,
        *carried: ir.Value,
    ) -> list[ir.Value]:
        layers = transformer.reading(op, repeated.values) if repeated else transformer
        earlier = _per_layer(carried)
        start = op.Mul(block, blocks.steps)  # also the earlier caches' length
        is_last = op.Equal(op.Add(block, 1), blocks.number)
        split_PE = op.Concat(call.P, op.Unsqueeze(start, [0]), axis=0)

        def decode_one_token(
            op: OpBuilder,
            iteration: ir.Value,
            condition: ir.Value,
            went_on: ir.Value,
            token_S: ir.Value,
            generated_ST: ir.Value,
            ended_S: ir.Value,
            *carried: ir.Value,
        ) -> list[ir.Value]:
            past = _per_layer(carried)
            position = op.Add(start, iteration)
            step = op.Add(position, 1)
            split_PET = op.Concat(split_PE, op.Unsqueeze(op.Add(iteration, 1), [0]), axis=0)
            x = layers.embed(op, token_S, op.Add(lengths_S, position))  # [S, D]
            presents: list[GeneratedCache] = []

            def attend(qkv: ir.Value) -> ir.Value:
                layer = len(presents)
                context, present = attention.decode(
                    op, qkv, prompts.caches[layer], prompts.mask, earlier[layer], past[layer], shapes, split_PET
                )
                presents.append(present)
                return context

            for layer in range(layers.n_layer):
                x = layers.block(op, layer, x, attend)
            stopped = rules.step(op, layers.lm_head(op, x), step, ended_S, (generated_ST,))
            token_S = stopped.drawn.token
            generated_ST = op.Concat(generated_ST, op.Unsqueeze(token_S, [1]), axis=1)
            go_on = op.Identity(stopped.go_on)
            return [stopped.go_on, go_on, token_S, generated_ST, stopped.ended_S, *_flat(presents), *stopped.drawn[1:]]

        begun = [condition, token_S, generated_ST, ended_S, *no_caches]
        body = subgraph(op, decode_one_token, *_step_signature(transformer))
        go_on, token_S, generated_ST, ended_S, *caches, later_TS, raw_later_TS = op.Loop(
            op.Where(is_last, op.Sub(trips, start), blocks.steps), condition, *begun, body=body, _outputs=len(begun) + 2
        )

        def appended(op: OpBuilder) -> list[ir.Value]:
            return [op.Concat(*parts, axis=3) for parts in zip(_flat(earlier), caches, strict=True)]

        def last(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(cache) for cache in caches]  # which nobody reads

        shape: list[int | str] = ["B", H, "R", "T", d]
        cache_types = [(transformer.dtype, shape)] * len(caches)
        return [
            go_on,
            token_S,
            generated_ST,
            ended_S,
            op.Concat(logprobs_TS, later_TS, axis=0),
            op.Concat(raw_logprobs_TS, raw_later_TS, axis=0),
            *branches(op, is_last, last, appended, cache_types),
        ]

    token_S, *logprobs_S = first.drawn
    logprobs_1S = [op.Unsqueeze(x_S, [0]) for x_S in logprobs_S]
    carried = [token_S, op.Unsqueeze(token_S, [1]), first.ended_S, *logprobs_1S, *no_caches]
    body = subgraph(op, decode_block, *_block_signature(transformer))
    _, tokens_SN, _, *logprobs_NS = op.Loop(blocks.number, first.go_on, *carried, body=body, _outputs=len(carried))[:5]
    if repeated:
        repeated.store_in(body)  # not before: the builder infers the Loop's types from all that is in its body
    return Drawn(tokens_SN, *logprobs_NS)


class Blocks(NamedTuple):
    """How the steps are divided among the trips of the outer Loop: `block_bounds` in the graph, int64 [] each."""

    number: ir.Value
    steps: ir.Value  # of each but the last, which has what is left

    @classmethod
    def of(cls, op: OpBuilder, steps: ir.Value) -> Blocks:
        """From the number of all steps, int64 [], at least 0."""
        in_block = op.Max(op.Cast(op.Ceil(op.Sqrt(op.Cast(steps, to=_F32))), to=_I64), 1)
        whole = op.Div(op.Sub(op.Add(steps, in_block), 1), in_block)
        return cls(op.Min(whole, op.Max(op.Sub(whole, 1), 1)), in_block)


def block_bounds(steps: int) -> list[int]:
    """The steps, from 0, at which blocks begin, and in the end the number of all.

    Of T tokens in blocks of K, a step copies what its block has so far, K / 2 on average, and a block copies what was
    before it, T / 2 / K for each of its tokens: least where K is the square root of T. But the last two of such blocks
    are one. Its steps copy as much more as appending between the two would, and K and V, of which there are two copies
    while they are appended, are appended for the last time when there are less of them.
    """
    in_block = max(math.ceil(math.sqrt(steps)), 1)
    starts = range(0, steps, in_block)
    return [*(starts[:-1] if len(starts) > 1 else starts), steps]


def _per_layer(carried: Sequence[ir.Value]) -> list[GeneratedCache]:
    return [GeneratedCache(*pair) for pair in zip(carried[::2], carried[1::2], strict=True)]


def _flat(caches: Sequence[GeneratedCache]) -> list[ir.Value]:
    return [kv for cache in caches for kv in cache]


def _step_signature(transformer: Transformer) -> tuple[list[ir.Value], list[ir.Value]]:
    """Inputs and outputs of a step's body: names, types and shapes."""
    inputs = [
        ir.val("iteration", _I64, []),
        ir.val("condition", _BOOL, []),
        ir.val("went_on", _BOOL, []),
        ir.val("token_past", _I64, ["S"]),
        ir.val("generated_past", _I64, ["S", "T"]),
        ir.val("ended_past", _BOOL, ["S"]),
        *_caches("past", transformer, "K - 1"),
    ]
    outputs = [
        ir.val("condition_out", _BOOL, []),
        ir.val("goes_on", _BOOL, []),
        ir.val("token_present", _I64, ["S"]),
        ir.val("generated_present", _I64, ["S", "T + 1"]),
        ir.val("ended_present", _BOOL, ["S"]),
        *_caches("present", transformer, "K"),
        ir.val("logprob", _F32, ["S"]),
        ir.val("raw_logprob", _F32, ["S"]),
    ]
    return inputs, outputs


def _block_signature(transformer: Transformer) -> tuple[list[ir.Value], list[ir.Value]]:
    """Inputs and outputs of a block's body."""
    inputs = [
        ir.val("block", _I64, []),
        ir.val("block_condition", _BOOL, []),
        ir.val("block_token_past", _I64, ["S"]),
        ir.val("block_generated_past", _I64, ["S", "T"]),
        ir.val("block_ended_past", _BOOL, ["S"]),
        ir.val("block_logprob_past", _F32, ["T", "S"]),
        ir.val("block_raw_logprob_past", _F32, ["T", "S"]),
        *_caches("earlier", transformer, "T - 1"),
    ]
    outputs = [
        ir.val("block_condition_out", _BOOL, []),
        ir.val("block_token_present", _I64, ["S"]),
        ir.val("block_generated_present", _I64, ["S", "T + K"]),
        ir.val("block_ended_present", _BOOL, ["S"]),
        ir.val("block_logprob_present", _F32, ["T + K", "S"]),
        ir.val("block_raw_logprob_present", _F32, ["T + K", "S"]),
        *_caches("later", transformer, "T + K - 1"),
    ]
    return inputs, outputs


def _caches(prefix: str, transformer: Transformer, length: str) -> list[ir.Value]:
    shape: list[int | str] = ["B", transformer.n_head, "R", length, transformer.head_dim]
    kinds = [(layer, kind) for layer in range(transformer.n_layer) for kind in ("key", "value")]
    return [ir.val(f"{prefix}_{kind}.{layer}", transformer.dtype, shape) for layer, kind in kinds]
