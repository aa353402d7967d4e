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
from gptloop.graph.prompt_attention import END
from gptloop.graph.rules import Rules
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import branches, subgraph
from gptloop.graph.signature import block_signature, step_signature
from gptloop.graph.start import Start
from gptloop.graph.transformer import Transformer
from gptloop.graph.weights import Repeated

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


class Generated(NamedTuple):
    """What a call generates, and what a later one may go on from.

    Attributes:
        drawn: Of the call's own steps: tokens int64 and log-probabilities float32, [S, N] each.
        ended_S: bool.
        rows: K and V of all tokens that a row has generated but the last, by layer; only of use where they were wanted.
    """

    drawn: Drawn
    ended_S: ir.Value
    rows: list[GeneratedCache]


class Generated(NamedTuple):
    """What a call generates, and what a later one may go on from.

    Attributes:
        drawn: Of the call's own steps: tokens int64 and log-probabilities float32, [S, N] each.
        ended_S: bool.
        rows: K and V of all tokens that a row has generated but the last, by layer; only of use where they were wanted.
    """

    drawn: Drawn
    ended_S: ir.Value
    rows: list[GeneratedCache]


def generate(
    op: OpBuilder,
    transformer: Transformer,
    start: Start,
    rules: Rules,
    call: Call,
    state_wanted: ir.Value,
    repeated: Repeated | None = None,
) -> Generated:
    """Generate all tokens behind the newest.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        start: What the steps go on from.
        rules: How to sample and stop.
        call: The call's sizes.
        state_wanted: bool [1], whether K and V of the rows are.
        repeated: The weights that the steps read, to be stored in the outer Loop's body; the transformer's own unless
            given.
    """
    first, resumed = start.first, call.resumed(op)
    trips = op.Squeeze(op.Sub(op.Add(call.N, resumed), 1))
    T = op.Squeeze(call.T(op))
    handed = Handed.of(op, transformer, rules, start.prompts, call)
    nothing = _flat(decode.no_caches(op, transformer, call))
    blocks = Blocks.of(op, trips, T)
    decoding = _Decoding(transformer, handed, blocks, trips, T, op.Squeeze(state_wanted), nothing, repeated)

    def with_later(op: OpBuilder) -> list[ir.Value]:
        tokens_SG, ended_S, logprobs_NS, raw_logprobs_NS, *rows = decoding.decode(op, start)
        logprobs_SN, raw_logprobs_SN = (op.Transpose(x, perm=[1, 0]) for x in (logprobs_NS, raw_logprobs_NS))
        return [tokens_SG, logprobs_SN, raw_logprobs_SN, ended_S, *rows]

    def newest_alone(op: OpBuilder) -> list[ir.Value]:
        logprobs_S1 = [op.Unsqueeze(x_S, [1]) for x_S in first.drawn[1:]]
        rows = [op.Identity(kv) for kv in _flat(start.rows)]
        return [op.Identity(start.sequences_SG), *logprobs_S1, op.Identity(first.ended_S), *rows]

    # OpenVINO's Loop of no trips does not return the carried values' initial ones (2026.4).
    outputs = [(_I64, ["S", "G + N"]), (_F32, ["S", "N"]), (_F32, ["S", "N"]), (_BOOL, ["S"])]
    outputs += [(transformer.dtype, ["B", transformer.n_head, "R", "T", transformer.head_dim])] * len(nothing)
    go_on = op.And(first.go_on, op.Greater(trips, 0))
    tokens, logprobs, raw_logprobs, ended_S, *rows = branches(op, go_on, with_later, newest_alone, outputs)
    # What an earlier call has returned is left out.
    tokens_SN = op.Slice(tokens, call.G, [END], [1])
    logprobs_SN = [op.Slice(x, resumed, [END], [1]) for x in (logprobs, raw_logprobs)]
    return Generated(Drawn(tokens_SN, *logprobs_SN), ended_S, _per_layer(rows))


class _Decoding(NamedTuple):
    """What every block reads."""

    transformer: Transformer
    handed: Handed
    blocks: Blocks
    trips: ir.Value  # int64 [], the number of all steps
    T: ir.Value  # int64 [], the length of the rows' K and V in the beginning
    state_wanted: ir.Value  # bool []
    nothing_yet: list[ir.Value]  # every layer's K and V of no token
    repeated: Repeated | None

    def decode(self, op: OpBuilder, start: Start) -> Sequence[ir.Value]:
        """The Loop over blocks: tokens [S, G + N], ended, log-probabilities [N, S] and the rows' K and V."""
        token_S, *logprobs_S = start.first.drawn
        body = subgraph(op, self.decode_block, *block_signature(self.transformer))
        logprobs_1S = [op.Unsqueeze(x_S, [0]) for x_S in logprobs_S]
        carried = [token_S, start.sequences_SG, start.first.ended_S, *logprobs_1S, *_flat(start.rows)]
        values = op.Loop(self.blocks.number, start.first.go_on, *carried, body=body, _outputs=len(carried))
        if self.repeated:
            self.repeated.store_in(body)  # not before: the builder infers the Loop's types from all that is in its body
        return list(values[1:])

    def decode_block(
        self,
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
        """The outer Loop's body: a block of steps, and what it adds to K and V of those before."""
        transformer = self.transformer
        layers = transformer.reading(op, self.repeated.values) if self.repeated else transformer
        earlier = _per_layer(carried)
        start = op.Mul(block, self.blocks.steps)
        is_last = op.Equal(op.Add(block, 1), self.blocks.number)
        split_PE = op.Concat(self.handed.P, op.Unsqueeze(op.Add(self.T, start), [0]), axis=0)

        begun = [condition, token_S, generated_ST, ended_S, *self.nothing_yet]
        body = subgraph(
            op, _Block(layers, self.handed, earlier, start, split_PE).decode_one_token, *step_signature(transformer)
        )
        steps = op.Where(is_last, op.Sub(self.trips, start), self.blocks.steps)
        outputs = op.Loop(steps, condition, *begun, body=body, _outputs=len(begun) + 2)
        *present, later_TS, raw_later_TS = outputs  # go_on, token_S, generated_ST, ended_S and the caches
        nobody_reads = op.And(is_last, op.Not(self.state_wanted))
        return [
            *present[:4],
            op.Concat(logprobs_TS, later_TS, axis=0),
            op.Concat(raw_logprobs_TS, raw_later_TS, axis=0),
            *_joined(op, transformer, nobody_reads, _flat(earlier), present[4:]),
        ]


class _Block(NamedTuple):
    """What every step of a block reads."""

    layers: Transformer
    handed: Handed
    earlier: list[GeneratedCache]  # of the blocks before
    start: ir.Value  # int64 [], the block's first step
    split_PE: ir.Value  # int64 [2], the lengths of the prompts' K and V and of the earlier ones

    def decode_one_token(
        self,
        op: OpBuilder,
        iteration: ir.Value,
        condition: ir.Value,
        went_on: ir.Value,
        token_S: ir.Value,
        generated_ST: ir.Value,
        ended_S: ir.Value,
        *carried: ir.Value,
    ) -> list[ir.Value]:
        """The inner Loop's body: a step."""
        past = Carried(token_S, generated_ST, ended_S, _per_layer(carried))
        position = op.Add(self.start, iteration)
        step = op.Add(position, 1)
        split_PET = op.Concat(self.split_PE, op.Unsqueeze(op.Add(iteration, 1), [0]), axis=0)
        present, stopped = decode.one_token(
            op, self.layers, self.handed, past, self.earlier, step=step, position=position, split=split_PET
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


def _joined(
    op: OpBuilder, transformer: Transformer, nobody_reads: ir.Value, earlier: list[ir.Value], later: Sequence[ir.Value]
) -> Sequence[ir.Value]:
    """K and V of the blocks before, and of this one; of this one alone where they are not read."""

    def appended(op: OpBuilder) -> list[ir.Value]:
        return [op.Concat(*parts, axis=3) for parts in zip(earlier, later, strict=True)]

    def alone(op: OpBuilder) -> list[ir.Value]:
        return [op.Identity(cache) for cache in later]

    shape: list[int | str] = ["B", transformer.n_head, "R", "T", transformer.head_dim]
    return branches(op, nobody_reads, alone, appended, [(transformer.dtype, shape)] * len(later))


class Blocks(NamedTuple):
    """How the steps are divided among the trips of the outer Loop: `block_bounds` in the graph, int64 [] each."""

    number: ir.Value
    steps: ir.Value  # of each but the last, which has what is left

    @classmethod
    def of(cls, op: OpBuilder, steps: ir.Value, T: ir.Value) -> Blocks:
        """From the number of all steps, at least 0, and of tokens in the rows' K and V before them, int64 [] each."""
        copied = op.Add(steps, op.Mul(T, 2))
        in_block = op.Max(op.Min(op.Cast(op.Ceil(op.Sqrt(op.Cast(copied, to=_F32))), to=_I64), steps), 1)
        whole = op.Div(op.Sub(op.Add(steps, in_block), 1), in_block)
        return cls(op.Min(whole, op.Max(op.Sub(whole, 1), 1)), in_block)


def block_bounds(steps: int, T: int = 0) -> list[int]:
    """The steps, from 0, at which blocks begin, and in the end the number of all, behind T tokens of each row.

    Of N steps in blocks of K, a step copies what its block has so far, K / 2 on average, and a block copies what was
    before it, (T + N / 2) / K for each of its tokens: least where K is the square root of N + 2 T. But the last two of
    such blocks are one. Its steps copy as much more as appending between the two would, and K and V, of which there are two copies
    while they are appended, are appended for the last time when there are less of them.
    """
    in_block = max(min(math.ceil(math.sqrt(steps + 2 * T)), steps), 1)
    starts = range(0, steps, in_block)
    return [*(starts[:-1] if len(starts) > 1 else starts), steps]


def _per_layer(carried: Sequence[ir.Value]) -> list[GeneratedCache]:
    return [GeneratedCache(*pair) for pair in zip(carried[::2], carried[1::2], strict=True)]


def _flat(caches: Sequence[GeneratedCache]) -> list[ir.Value]:
    return [kv for cache in caches for kv in cache]
