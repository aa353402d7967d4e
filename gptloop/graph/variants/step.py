"""The same generation as two graphs without a Loop: the prefill with the first token, and one decode step.

Whoever runs them loops from outside: what the prefill hands over is bound to every step, what a step carries comes out
under its input's name with the prefix `next.`. Both are made of what the generating graph is made of: a step is that of
the Loop's body, sampling included, and reads what the body reads from the outer scope. So the difference in time is
what the Loop inside the graph is worth. Knows no runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import onnx_ir as ir
from onnxscript import GraphBuilder

from gptloop import names
from gptloop.graph import decode
from gptloop.graph.decode import Carried, Handed
from gptloop.graph.model import INPUTS, IR_VERSION, author, read_call
from gptloop.graph.prefill import prefill
from gptloop.graph.rules import Rules
from gptloop.graph.scope import scope
from gptloop.graph.stop import Stopped
from gptloop.graph.transformer import Transformer

Tree = TypeVar("Tree")  # tuples and lists of values


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
    read = _as_inputs(decode_builder, handed, names.HANDED)
    past = _as_inputs(decode_builder, carried, names.CARRIED)
    present, stopped = _decode(decode_builder, transformer, read, past)
    _add_outputs(decode_builder, present, names.NEXT + names.CARRIED)
    _add_stopped(decode_builder, stopped)
    return StepGraphs(*(ir.Model(b.graph, ir_version=IR_VERSION) for b in (builder, decode_builder)))


def _prefill(builder: GraphBuilder, transformer: Transformer) -> tuple[Handed, Carried, Stopped]:
    op = builder.op
    inputs = {name: builder.input(name, dtype, shape) for name, (dtype, shape) in INPUTS.items()}
    call = read_call(op, inputs)
    rules = Rules.read(op, inputs, call)
    with scope(op, "prefill"):
        logits_BV, prompts = prefill(op, transformer, inputs[names.INPUT_IDS], inputs[names.ATTENTION_MASK], call)
    first = rules.first(op, logits_BV, call)
    token_S = first.drawn.token
    caches = decode.no_caches(op, transformer, call)
    carried = Carried(token_S, op.Unsqueeze(token_S, [1]), first.ended_S, caches)
    return Handed.of(op, transformer, rules, prompts, call), carried, first


def _decode(builder: GraphBuilder, transformer: Transformer, handed: Handed, past: Carried) -> tuple[Carried, Stopped]:
    op = builder.op
    step = builder.input(names.STEP, ir.DataType.INT64, [])
    with scope(op, "decode"):
        split_TP = op.Concat(op.Unsqueeze(step, [0]), handed.P, axis=0)
        positions_S = op.Add(handed.lengths_S, op.Sub(step, 1))
        return decode.one_token(op, transformer, handed, past, None, step=step, positions_S=positions_S, split=split_TP)


def _add_outputs(builder: GraphBuilder, tree: Any, prefix: str) -> None:
    def add(name: str, value: ir.Value) -> ir.Value:
        # What is an input, or stands in two places, needs another name as an output.
        builder.add_output(builder.op.Identity(value), name)
        return value

    _map(tree, prefix, add)


def _add_stopped(builder: GraphBuilder, stopped: Stopped) -> None:
    for name, value in zip((names.GO_ON, *names.STEP_LOGPROBS), (stopped.go_on, *stopped.drawn[1:]), strict=True):
        builder.add_output(builder.op.Identity(value), name)


def _as_inputs(builder: GraphBuilder, tree: Tree, prefix: str) -> Tree:
    """The same structure, each of its values an input of this graph."""
    changed: Tree = _map(tree, prefix, lambda name, value: builder.input(name, value.dtype, [None] * _rank(value)))
    return changed


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
