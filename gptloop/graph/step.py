"""The same generation as two graphs without a Loop: the prefill with the first token, and one decode step.

Whoever runs them loops from outside: what the prefill hands over is bound to every step, what a step carries comes out
under its input's name with the prefix `next.`. Both are made of the modules of the generating graph: a step computes
what the Loop's body computes, sampling included, and reads what the body reads from the outer scope. So the difference
in time is what the Loop inside the graph is worth. Knows no runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from gptloop import names
from gptloop.graph import attention
from gptloop.graph.attention import DecodeShapes, GeneratedCache
from gptloop.graph.call import Call, per_row
from gptloop.graph.loop import Rules
from gptloop.graph.model import INPUTS, IR_VERSION, author, read_call, read_rules
from gptloop.graph.prefill import Prompts, prefill
from gptloop.graph.scope import scope, typed
from gptloop.graph.stop import Stopped
from gptloop.graph.transformer import Transformer


class Handed(NamedTuple):
    """What every step reads and none changes."""

    rules: Rules
    prompts: Prompts
    shapes: DecodeShapes
    lengths_S: ir.Value
    P: ir.Value


class Carried(NamedTuple):
    """What every step reads and replaces: the Loop's carried values."""

    token_S: ir.Value
    tokens_ST: ir.Value
    ended_S: ir.Value
    caches: list[GeneratedCache]


class StepGraphs(NamedTuple):
    """Both graphs; they share their tensors, under the same names."""

    prefill: ir.Model
    decode: ir.Model


def build_step(config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str) -> StepGraphs:
    """Author the two graphs of one checkpoint.

    Args:
        config: As `gptloop.graph.build`, like what follows.
        tensors: The checkpoint's tensors.
        precision: Theirs.

    Returns:
        Prefill: the inputs of the generating graph; outputs `handed.*`, `carried.*`, `go_on` and the log-probabilities
        of the first token. Decode: inputs `handed.*`, `carried.*` and `step`; outputs `next.carried.*`, `go_on` and the
        log-probabilities.
    """
    builder, transformer = author(config, tensors, precision)
    handed, carried, stopped = _prefill(builder, transformer)
    _add_outputs(builder, handed, names.HANDED)
    _add_outputs(builder, carried, names.CARRIED)
    _add_stopped(builder, stopped)

    decode_builder, transformer = author(config, tensors, precision)
    step = decode_builder.input(names.STEP, ir.DataType.INT64, [])
    with scope(decode_builder.op, "decode"):
        carried, stopped = _decode(
            decode_builder.op,
            transformer,
            _as_inputs(decode_builder, handed, names.HANDED),
            _as_inputs(decode_builder, carried, names.CARRIED),
            step,
        )
    _add_outputs(decode_builder, carried, names.NEXT + names.CARRIED)
    _add_stopped(decode_builder, stopped)
    return StepGraphs(*(ir.Model(b.graph, ir_version=IR_VERSION) for b in (builder, decode_builder)))


def _prefill(builder: GraphBuilder, transformer: Transformer) -> tuple[Handed, Carried, Stopped]:
    op, H, d = builder.op, transformer.n_head, transformer.head_dim
    inputs = {name: builder.input(name, dtype, shape) for name, (dtype, shape) in INPUTS.items()}
    call = read_call(op, inputs)
    rules = read_rules(op, inputs, call)
    with scope(op, "prefill"):
        logits_BV, prompts = prefill(op, transformer, inputs[names.INPUT_IDS], inputs[names.ATTENTION_MASK], call)
    with scope(op, "first"):
        none_ended_S = op.Expand(False, op.Mul(call.B, call.R))
        stopped = rules.step(op, per_row(op, call, logits_BV), op.Squeeze([0]), none_ended_S, ())
    nothing_yet = typed(op, op.Expand(0.0, op.Concat(call.B, [H], call.R, [0, d], axis=0)), transformer.dtype)
    caches = [GeneratedCache(op.Identity(nothing_yet), op.Identity(nothing_yet)) for _ in range(transformer.n_layer)]
    token_S = stopped.drawn.token
    carried = Carried(token_S, op.Unsqueeze(token_S, [1]), stopped.ended_S, caches)
    return _handed(op, transformer, rules, prompts, call), carried, stopped


def _handed(op: OpBuilder, transformer: Transformer, rules: Rules, prompts: Prompts, call: Call) -> Handed:
    H, d = transformer.n_head, transformer.head_dim
    shapes = DecodeShapes.of(op, call.B, call.R, H, d)
    lengths_S = op.Squeeze(per_row(op, call, prompts.lengths_B1), [1])
    return Handed(rules, prompts, shapes, lengths_S, op.Identity(call.P))


def _decode(
    op: OpBuilder, transformer: Transformer, handed: Handed, past: Carried, step: ir.Value
) -> tuple[Carried, Stopped]:
    """The body of the Loop in gptloop.graph.loop, by the same functions in the same order."""
    split_PT = op.Concat(handed.P, op.Unsqueeze(step, [0]), axis=0)
    x = transformer.embed(op, past.token_S, op.Add(handed.lengths_S, op.Sub(step, 1)))  # [S, D]
    prompts = handed.prompts
    presents: list[GeneratedCache] = []

    def attend(qkv: ir.Value) -> ir.Value:
        layer = len(presents)
        context, present = attention.decode(
            op, qkv, prompts.caches[layer], prompts.mask, None, past.caches[layer], handed.shapes, split_PT
        )
        presents.append(present)
        return context

    for layer in range(transformer.n_layer):
        x = transformer.block(op, layer, x, attend)
    stopped = handed.rules.step(op, transformer.lm_head(op, x), step, past.ended_S, (past.tokens_ST,))
    token_S = stopped.drawn.token
    tokens_ST = op.Concat(past.tokens_ST, op.Unsqueeze(token_S, [1]), axis=1)
    return Carried(token_S, tokens_ST, stopped.ended_S, presents), stopped


def _add_outputs(builder: GraphBuilder, tree: Any, prefix: str) -> None:
    def add(name: str, value: ir.Value) -> ir.Value:
        # What is an input, or stands in two places, needs another name as an output.
        builder.add_output(builder.op.Identity(value), name)
        return value

    _map(tree, prefix, add)


def _add_stopped(builder: GraphBuilder, stopped: Stopped) -> None:
    for name, value in zip((names.GO_ON, *names.STEP_LOGPROBS), (stopped.go_on, *stopped.drawn[1:]), strict=True):
        builder.add_output(builder.op.Identity(value), name)


def _as_inputs(builder: GraphBuilder, tree: Any, prefix: str) -> Any:
    """The same structure, each of its values an input of this graph."""
    return _map(tree, prefix, lambda name, value: builder.input(name, value.dtype, [None] * _rank(value)))


def _rank(value: ir.Value) -> int:
    assert value.shape is not None, f"{value.name} has no inferred shape"
    return len(value.shape)


def _map(tree: Any, name: str, change: Callable[[str, ir.Value], ir.Value]) -> Any:
    """A structure of tuples and lists with its values changed, each named by its path; numbers stay."""
    if isinstance(tree, ir.Value):
        return change(name, tree)
    if isinstance(tree, tuple):
        fields = tree._asdict() if hasattr(tree, "_asdict") else dict(enumerate(tree))
        parts = [_map(part, f"{name}.{field}", change) for field, part in fields.items()]
        return type(tree)(*parts) if hasattr(tree, "_asdict") else tuple(parts)
    if isinstance(tree, list):
        return [_map(part, f"{name}.{index}", change) for index, part in enumerate(tree)]
    return tree
