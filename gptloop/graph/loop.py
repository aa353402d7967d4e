"""The steps: the first token from the prefill's logits, then the standard Loop, one new token per row and trip.

A Loop copies what it carries whenever that grows, so the steps stand in two Loops: the inner one runs a block of steps
and carries the block's own K and V only, and the outer one appends them to those of the blocks before, which no step
copies. Both carry the last token, the tokens so far (in the end, the result) and which rows have ended. The prompts'
K and V, the uniform numbers and the settings are read from the outer scope.

Source: ONNX operator Loop, opset 21.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop.graph import decode
from gptloop.graph.attention import GeneratedCache
from gptloop.graph.blocks import Blocks
from gptloop.graph.call import Call
from gptloop.graph.decode import Carried, Handed
from gptloop.graph.operators import END
from gptloop.graph.repeated import Repeated
from gptloop.graph.rules import Rules
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import GROWS, Kinds, branches, subgraph
from gptloop.graph.signature import block_signature, rows_kinds, step_signature
from gptloop.graph.start import Start
from gptloop.graph.transformer import Transformer

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


class Generated(NamedTuple):
    """What a call generates, and what a later one may go on from.

    Attributes:
        drawn: Of the call's own steps: tokens int64 and log-probabilities float32, [S, N] each.
        ended_S: bool.
        block: K and V of the tokens, but the last, that no block had which was complete before the call; by layer, of
            use where they were wanted.
    """

    drawn: Drawn
    ended_S: ir.Value
    block: list[GeneratedCache]


def generate(
    op: OpBuilder,
    transformer: Transformer,
    start: Start,
    rules: Rules,
    call: Call,
    blocks: Blocks,
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
        blocks: The blocks of its steps.
        state_wanted: bool [1], whether K and V of the rows are.
        repeated: The weights that the steps read, to be stored in the outer Loop's body; the transformer's own unless
            given.
    """
    first, resumed = start.first, call.resumed(op)
    handed = Handed.of(op, transformer, rules, start.prompts, call)
    nothing = _flat(decode.no_caches(op, transformer, call))
    decoding = _Decoding(transformer, handed, blocks, op.Squeeze(state_wanted), nothing, repeated)

    def with_later(op: OpBuilder) -> list[ir.Value]:
        tokens_SG, ended_S, logprobs_NS, raw_logprobs_NS, *caches = decoding.decode(op, start)
        logprobs_SN, raw_logprobs_SN = (op.Transpose(x, perm=[1, 0]) for x in (logprobs_NS, raw_logprobs_NS))
        return [tokens_SG, logprobs_SN, raw_logprobs_SN, ended_S, *caches]

    def newest_alone(op: OpBuilder) -> list[ir.Value]:
        logprobs_S1 = [op.Unsqueeze(x_S, [1]) for x_S in first.drawn[1:]]
        caches = _copied(_flat(start.block))(op)
        return [op.Identity(start.sequences_SG), *logprobs_S1, op.Identity(first.ended_S), *caches]

    # OpenVINO's Loop of no trips does not return the carried values' initial ones (2026.4).
    outputs: Kinds = [(_I64, ["S", "G + N"]), (_F32, ["S", "drawn"]), (_F32, ["S", "drawn"]), (_BOOL, ["S"])]
    outputs += rows_kinds(transformer, "C_present")
    go_on = op.And(first.go_on, op.Greater(blocks.end, blocks.T))
    tokens, logprobs, raw_logprobs, ended_S, *caches = branches(op, go_on, with_later, newest_alone, outputs)
    # What an earlier call has returned is left out.
    tokens_SN = op.Slice(tokens, call.G, [END], [1])
    logprobs_SN = [op.Slice(x, resumed, [END], [1]) for x in (logprobs, raw_logprobs)]
    return Generated(Drawn(tokens_SN, *logprobs_SN), ended_S, _per_layer(caches))


class _Decoding(NamedTuple):
    """What every block reads."""

    transformer: Transformer
    handed: Handed
    blocks: Blocks
    state_wanted: ir.Value  # bool []
    nothing: list[ir.Value]  # every layer's K and V of no token
    repeated: Repeated | None

    def decode(self, op: OpBuilder, start: Start) -> Sequence[ir.Value]:
        """The Loop over blocks: tokens [S, G + N], ended, log-probabilities [N, S], K and V of `Generated.block`."""
        token_S, *logprobs_S = start.first.drawn
        body = subgraph(op, self.decode_block, *block_signature(self.transformer))
        logprobs_1S = [op.Unsqueeze(x_S, [0]) for x_S in logprobs_S]
        caches = (*_flat(start.rows), *_flat(start.block))
        carried = [token_S, start.sequences_SG, start.first.ended_S, *logprobs_1S, *caches]
        values = op.Loop(self.blocks.number, start.first.go_on, *carried, body=body, _outputs=len(carried))
        if self.repeated:
            self.repeated.store(body)
        _, *results = values
        return [*results[:4], *_flat(_halves(results[4:])[1])]

    def decode_block(
        self,
        op: OpBuilder,
        trip: ir.Value,
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
        layers = transformer.reading(op, self.repeated.values, token_S) if self.repeated else transformer
        earlier, begun = _halves(carried)
        block = self.blocks.at(op, trip)
        E = op.Unsqueeze(block.first, [0])
        done = op.Sub(block.start, self.blocks.T)  # steps of the call's own
        positions_S, own = op.Add(self.handed.lengths_S, done), op.Unsqueeze(op.Add(block.before(op), 1), [0])
        steps = _Block(layers, self.handed, earlier, op.Add(done, 1), positions_S, own, E)
        body = subgraph(op, steps.decode_one_token, *step_signature(transformer))
        entered = [condition, token_S, generated_ST, ended_S, *_flat(begun)]
        outputs = op.Loop(op.Sub(block.stop, block.start), condition, *entered, body=body, _outputs=len(entered) + 2)
        *present, later_TS, raw_later_TS = outputs  # go_on, token_S, generated_ST, ended_S and the caches
        return [
            *present[:4],
            op.Concat(logprobs_TS, later_TS, axis=0),
            op.Concat(raw_logprobs_TS, raw_later_TS, axis=0),
            *self._later(op, trip, present[0], _flat(earlier), present[4:]),
        ]

    def _later(
        self, op: OpBuilder, trip: ir.Value, goes_on: ir.Value, earlier: list[ir.Value], own: Sequence[ir.Value]
    ) -> list[ir.Value]:
        """What the next block finds appended, and what the last one leaves: empty where nobody reads it."""
        kinds = rows_kinds(self.transformer, GROWS)
        none = _copied(self.nothing)

        def appended(op: OpBuilder) -> list[ir.Value]:
            return [*_appended(op, earlier, own), *none(op)]

        def of_the_call(op: OpBuilder) -> list[ir.Value]:
            before = op.Unsqueeze(self.blocks.before(op), [0])
            return _appended(op, [op.Slice(kv, before, [END], [3]) for kv in earlier], own)

        def left(op: OpBuilder) -> list[ir.Value]:
            return [*branches(op, op.Greater(trip, 0), of_the_call, _copied(own), kinds)]

        def last(op: OpBuilder) -> list[ir.Value]:
            return [*none(op), *branches(op, self.state_wanted, left, none, kinds)]

        has_next = op.And(goes_on, op.Less(op.Add(trip, 1), self.blocks.number))
        return [*branches(op, has_next, appended, last, kinds * 2)]


class _Block(NamedTuple):
    """What every step of a block reads; of its first step, what the others count from."""

    layers: Transformer
    handed: Handed
    earlier: list[GeneratedCache]  # of the blocks before
    first_step: ir.Value  # int64 [], the number of the token that it draws, counted from the call's first
    positions_S: ir.Value  # int64, of the tokens that it reads
    own: ir.Value  # int64 [1], tokens of the block that it attends to
    E: ir.Value  # int64 [1], tokens of the blocks before

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
        step, positions_S, own = (op.Add(x, iteration) for x in (self.first_step, self.positions_S, self.own))
        split_ETP = op.Concat(self.E, own, self.handed.P, axis=0)
        present, stopped = decode.one_token(
            op, self.layers, self.handed, past, self.earlier, step=step, positions_S=positions_S, split=split_ETP
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


def _halves(caches: Sequence[ir.Value]) -> tuple[list[GeneratedCache], list[GeneratedCache]]:
    """Of complete blocks and of the one that is not, by layer."""
    middle = len(caches) // 2
    return _per_layer(caches[:middle]), _per_layer(caches[middle:])


def _per_layer(carried: Sequence[ir.Value]) -> list[GeneratedCache]:
    return [GeneratedCache(*pair) for pair in zip(carried[::2], carried[1::2], strict=True)]


def _appended(op: OpBuilder, rows: Sequence[ir.Value], block: Sequence[ir.Value]) -> list[ir.Value]:
    return [op.Concat(*parts, axis=3) for parts in zip(rows, block, strict=True)]


def _copied(values: Sequence[ir.Value]) -> Callable[[OpBuilder], list[ir.Value]]:
    """A branch that has these values: they may not be a branch's without a node of its own."""

    def copied(op: OpBuilder) -> list[ir.Value]:
        return [op.Identity(value) for value in values]

    return copied


def _flat(caches: Sequence[GeneratedCache]) -> list[ir.Value]:
    return [kv for cache in caches for kv in cache]
