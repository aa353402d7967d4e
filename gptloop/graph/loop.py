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

from gptloop.graph import decode
from gptloop.graph.attention import GeneratedCache
from gptloop.graph.call import Call
from gptloop.graph.decode import Carried, Handed
from gptloop.graph.prefill import Prompts
from gptloop.graph.rules import Rules
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches, subgraph
from gptloop.graph.stop import Stopped
from gptloop.graph.transformer import Transformer
from gptloop.graph.weights import Repeated

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


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
    first = rules.first(op, logits_BV, call)
    trips = op.Sub(op.Squeeze(call.N), 1)
    handed = Handed.of(op, transformer, rules, prompts, call)
    decoded = _decode(op, transformer, first, handed, call, trips, repeated)

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
    handed: Handed,
    call: Call,
    trips: ir.Value,
    repeated: Repeated | None,
) -> Drawn:
    """The Loop over blocks, after the first token: all tokens [S, N], and their log-probabilities [N, S]."""
    nothing_yet = _flat(decode.no_caches(op, transformer, call))
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
        split_PE = op.Concat(handed.P, op.Unsqueeze(start, [0]), axis=0)

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
            past = Carried(token_S, generated_ST, ended_S, _per_layer(carried))
            position = op.Add(start, iteration)
            step = op.Add(position, 1)
            split_PET = op.Concat(split_PE, op.Unsqueeze(op.Add(iteration, 1), [0]), axis=0)
            present, stopped = decode.one_token(
                op, layers, handed, past, earlier, step=step, position=position, split=split_PET
            )
            go_on = op.Identity(stopped.go_on)
            return [
                stopped.go_on,
                go_on,
                present.token_S,
                present.tokens_ST,
                present.ended_S,
                *_flat(present.caches),
                *stopped.drawn[1:],
            ]

        begun = [condition, token_S, generated_ST, ended_S, *nothing_yet]
        body = subgraph(op, decode_one_token, *_step_signature(transformer))
        go_on, token_S, generated_ST, ended_S, *caches, later_TS, raw_later_TS = op.Loop(
            op.Where(is_last, op.Sub(trips, start), blocks.steps), condition, *begun, body=body, _outputs=len(begun) + 2
        )

        def appended(op: OpBuilder) -> list[ir.Value]:
            return [op.Concat(*parts, axis=3) for parts in zip(_flat(earlier), caches, strict=True)]

        def last(op: OpBuilder) -> list[ir.Value]:
            return [op.Identity(cache) for cache in caches]  # which nobody reads

        shape: list[int | str] = ["B", transformer.n_head, "R", "T", transformer.head_dim]
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
    carried = [token_S, op.Unsqueeze(token_S, [1]), first.ended_S, *logprobs_1S, *nothing_yet]
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
