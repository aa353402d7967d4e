"""Where the steps start: behind the prefill and the first draw, or where an earlier call ended."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph.attention import GeneratedCache, PromptCache
from gptloop.graph.blocks import Blocks
from gptloop.graph.call import Call
from gptloop.graph.decode import no_caches
from gptloop.graph.operators import END, any_of
from gptloop.graph.prefill import Prompts, prefill
from gptloop.graph.rules import Rules
from gptloop.graph.sampling import Drawn
from gptloop.graph.scope import Kinds, branches, scope
from gptloop.graph.signature import rows_kinds
from gptloop.graph.state import Past
from gptloop.graph.stop import Stopped
from gptloop.graph.transformer import Transformer

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL


class Start(NamedTuple):
    """What the steps go on from.

    Attributes:
        first: The newest token of each row: this call's first, or the last of an earlier one, which this call does not
            return.
        sequences_SG: int64, all tokens that the rows have generated up to it.
        prompts: What the steps read of the prompts.
        rows: K and V of the tokens of complete blocks of steps, by layer.
        block: Of the others before the newest, by layer.
    """

    first: Stopped
    sequences_SG: ir.Value
    prompts: Prompts
    rows: list[GeneratedCache]
    block: list[GeneratedCache]


def start(
    op: OpBuilder,
    transformer: Transformer,
    inputs: Mapping[str, ir.Value],
    past: Past,
    rules: Rules,
    call: Call,
    blocks: Blocks,
) -> Start:
    """Prefill the prompts and draw the first token of each row, unless an earlier call has.

    Args:
        op: The outer graph's operators.
        transformer: The layers.
        inputs: The graph's, by name.
        past: What an earlier call has left.
        rules: How to sample and stop.
        call: The call's sizes.
        blocks: The blocks of its steps.
    """
    ids, mask = inputs[names.INPUT_IDS], inputs[names.ATTENTION_MASK]
    transformer.prepare(op, ids)

    def from_prompts(op: OpBuilder) -> list[ir.Value]:
        with scope(op, "prefill"):
            logits_BV, prompts = prefill(op, transformer, ids, mask, call, past.prompts)
        first = rules.first(op, logits_BV, call)
        caches = [kv for cache in prompts.caches for kv in cache]
        nothing = no_caches(op, transformer, call) * 2
        caches += [op.Identity(kv) for cache in nothing for kv in cache]  # each value is one output only
        return [*first.drawn, first.ended_S, first.go_on, op.Unsqueeze(first.drawn.token, [1]), *caches]

    def from_past(op: OpBuilder) -> list[ir.Value]:
        generated = _divided(op, past, op.Unsqueeze(blocks.before(op), [0]), of_rows)
        return [*_newest(op, past, call), *generated]

    H, d = transformer.n_head, transformer.head_dim
    of_rows, of_block = (rows_kinds(transformer, length) for length in ("E_given", "C_given"))
    dims: list[list[int | str]] = [["B", H, d, "P_even"], ["B", H, "P_even", d]]
    of_row = [(_I64, ["S"]), (_F32, ["S"]), (_F32, ["S"]), (_BOOL, ["S"])]
    outputs: Kinds = [*of_row, (_BOOL, []), (_I64, ["S", "G_present"])]
    outputs += [(transformer.dtype, shape) for shape in dims] * transformer.n_layer
    resumed = op.Squeeze(op.Greater(call.G, 0))
    values = branches(op, resumed, from_past, from_prompts, [*outputs, *of_rows, *of_block])
    token, logprob, raw_logprob, ended, go_on, sequences, *caches = values
    n, pairs = transformer.n_layer, list(zip(caches[::2], caches[1::2], strict=True))
    of_prompts, rows, block = pairs[:n], pairs[n : 2 * n], pairs[2 * n :]
    prompts = Prompts.of(op, [PromptCache(*pair) for pair in of_prompts], mask, transformer.dtype)
    first = Stopped(Drawn(token, logprob, raw_logprob), ended, go_on)
    generated = ([GeneratedCache(*pair) for pair in of_layers] for of_layers in (rows, block))
    return Start(first, sequences, prompts, *generated)


def _newest(op: OpBuilder, past: Past, call: Call) -> list[ir.Value]:
    """Of a state, what the steps go on from beside K and V of the rows: as `start` has it, in this order."""
    assert call.G is not None  # of a call that may go on from something
    ended_S = op.Reshape(past.ended, [-1])
    sequences_BRG = op.Slice(past.sequences, [0], call.G, [2])
    sequences_SG = op.Reshape(sequences_BRG, op.Concat(op.Mul(call.B, call.R), call.G, axis=0), allowzero=1)
    token_S = op.Gather(sequences_SG, -1, axis=1)
    no_logprob_S = op.Expand(0.0, op.Shape(token_S))
    caches = [op.Identity(kv) for cache in past.prompts for kv in cache]
    go_on = any_of(op, op.Not(ended_S))
    return [token_S, no_logprob_S, op.Identity(no_logprob_S), ended_S, go_on, sequences_SG, *caches]


def _divided(op: OpBuilder, past: Past, before: ir.Value, of_rows: Kinds) -> list[ir.Value]:
    """K and V of a state by blocks: of those that are complete, then of the tokens behind them; of every layer.

    What an earlier call has left as `rows`, this one copies once, as does each block of a call that goes on; without an
    Identity, a branch may not have what stands around it.

    Args:
        op: The operators of the branch that the calls that go on take.
        past: Where `rows` has tokens, those are E.
        before: int64 [1], tokens of complete blocks.
        of_rows: Types and shapes of the former.
    """
    rows, block = (list(itertools.chain(*caches)) for caches in (past.rows, past.block))
    completed = op.Sub(before, past.E)

    def tokens(op: OpBuilder) -> list[ir.Value]:
        return [op.Slice(kv, [0], completed, [3]) for kv in block]

    def appended(op: OpBuilder) -> list[ir.Value]:
        return [op.Concat(*parts, axis=3) for parts in zip(rows, tokens(op), strict=True)]

    def unchanged(op: OpBuilder) -> list[ir.Value]:
        return [op.Identity(kv) for kv in rows]

    def some(op: OpBuilder) -> list[ir.Value]:
        return [*branches(op, op.Squeeze(op.Greater(completed, 0)), appended, unchanged, of_rows)]

    complete = branches(op, op.Squeeze(op.Greater(past.E, 0)), some, tokens, of_rows)
    return [*complete, *(op.Slice(kv, completed, [END], [3]) for kv in block)]
