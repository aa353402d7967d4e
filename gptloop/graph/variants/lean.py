"""Graphs for a GPU: nothing in a decode step asks the CPU anything, and nothing branches.

The standard graph's switches are inputs, so its steps hold Ifs, whose conditions a runtime reads on the CPU. The graphs
here sample by temperature and one top_k, end only at `max_new_tokens`, and give no log-probabilities; in return the
step number, the positions and the tokens stay on the device, and the Loop's condition is a constant. The flavors:

- lean: a Loop whose K and V grow by Concat; the control of the other two.
- fixed: a Loop whose K and V have their full length from the start; a step writes its own place by Where.
- fused: lean, with contrib operators of ONNX Runtime (gptloop.graph.variants.fused) in the steps.
- unrolled: no Loop; `max_new_tokens` is fixed at export and every step is written out, so that ONNX Runtime can capture
  the whole call as one CUDA graph. The uniform numbers are an input: what makes them has no CUDA kernels.

Tokens are those of the standard graph. Knows the same modules as gptloop.graph.model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder

from gptloop import names
from gptloop.graph import attention, decode
from gptloop.graph.attention import DecodeShapes, GeneratedCache
from gptloop.graph.call import Call, on_host, per_row, uniforms
from gptloop.graph.inverse_cdf import inverse_cdf
from gptloop.graph.model import IR_VERSION, author
from gptloop.graph.prefill import Prompts, prefill
from gptloop.graph.scope import scope, subgraph, typed
from gptloop.graph.transformer import Attend, Transformer
from gptloop.graph.variants import fused

FLAVORS = ("lean", "fixed", "fused", "unrolled")

_I64, _F32, _BOOL = ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.BOOL
_INPUTS: dict[str, tuple[ir.DataType, list[int | str]]] = {
    names.INPUT_IDS: (_I64, ["B", "P"]),
    names.ATTENTION_MASK: (_I64, ["B", "P"]),
    names.NUM_RETURN_SEQUENCES: (_I64, [1]),
    names.TEMPERATURE: (_F32, ["B_temperature"]),
    names.TOP_K: (_I64, [1]),  # at least 1, as TopK reads it: on the CPU, so that no step has to ask for it
}


class Draw(NamedTuple):
    """What turns logits into tokens."""

    uniforms_NS1: ir.Value  # float32
    temperature_S1: ir.Value  # float32, above 0
    top_k_1: ir.Value  # int64

    def token(self, op: OpBuilder, logits_SV: ir.Value, step: ir.Value | int) -> ir.Value:
        """The rule of gptloop.graph.sampling with nothing but a temperature and one top_k: int64 [S, 1]."""
        values_SK, ids_SK = op.TopK(logits_SV, self.top_k_1, largest=1, sorted=1, _outputs=2)
        ids_SK, order_SK = op.TopK(ids_SK, self.top_k_1, largest=0, sorted=1, _outputs=2)
        values_SK = op.GatherElements(values_SK, order_SK, axis=1)
        probs_SK = op.Softmax(op.Div(values_SK, self.temperature_S1), axis=-1)
        uniform_S1 = op.Gather(self.uniforms_NS1, step, axis=0)
        return op.GatherElements(ids_SK, inverse_cdf(op, probs_SK, uniform_S1), axis=1)


class _Steps(NamedTuple):
    """What every step reads: the layers and the outer graph's values."""

    transformer: Transformer
    prompts: Prompts
    shapes: DecodeShapes
    draw: Draw

    def appending(
        self,
        op: OpBuilder,
        past: Sequence[GeneratedCache | None],
        split_PT: ir.Value,
        presents: list[GeneratedCache],
    ) -> Attend:
        """`decode.appending` with nothing earlier."""
        return decode.appending(op, self.prompts, None, past, self.shapes, split_PT, presents)

    def logits(self, op: OpBuilder, token_S: ir.Value, position_S: ir.Value, attend: Attend) -> ir.Value:
        """Logits [S, V] after one token per row."""
        return self.transformer.logits(op, self.transformer.embed(op, token_S, position_S), attend)


def build_lean(
    config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str, flavor: str, max_new_tokens: int | None
) -> ir.Model:
    """Author a graph of one of `FLAVORS`.

    Args:
        config: As `gptloop.graph.build`, like what follows.
        tensors: The checkpoint's tensors.
        precision: Theirs.
        flavor: One of `FLAVORS`.
        max_new_tokens: Of "unrolled" only.

    Returns:
        A model with a part of the inputs of `gptloop.names` (for "unrolled", `uniforms` in place of `seed`) and the
        output `sequences`.
    """
    builder, transformer = author(config, tensors, precision)
    op = builder.op
    inputs = {name: builder.input(name, dtype, shape) for name, (dtype, shape) in _INPUTS.items()}
    if max_new_tokens is None:
        new_tokens = builder.input(names.MAX_NEW_TOKENS, _I64, [1])
        seed = builder.input(names.SEED, _I64, ["B"])
    else:
        uniforms_NS1 = builder.input(names.UNIFORMS, _F32, [max_new_tokens, "S", 1])
        new_tokens = op.Shape(uniforms_NS1, start=0, end=1)
    ids = inputs[names.INPUT_IDS]
    call = Call(
        B=op.Shape(ids, start=0, end=1),
        R=inputs[names.NUM_RETURN_SEQUENCES],
        P=op.Shape(ids, start=1, end=2),
        N=new_tokens,
    )
    if max_new_tokens is None:
        with scope(op, "uniforms"):
            uniforms_NS1 = uniforms(op, seed, call)
        call = call._replace(N=on_host(op, call, call.N))
    draw = Draw(uniforms_NS1, per_row(op, call, inputs[names.TEMPERATURE]), inputs[names.TOP_K])
    with scope(op, "prefill"):
        logits_BV, prompts = prefill(op, transformer, ids, inputs[names.ATTENTION_MASK], call)
    with scope(op, "first"):
        token_S1 = draw.token(op, per_row(op, call, logits_BV), 0)

    H, d = transformer.n_head, transformer.head_dim
    shapes = DecodeShapes.of(op, call.B, call.R, H, d)
    decoder = fused.FusedTransformer.of(transformer) if flavor == "fused" else transformer
    steps = _Steps(decoder, prompts, shapes, draw)
    position_S = op.Squeeze(per_row(op, call, prompts.lengths_B1), [1])
    if max_new_tokens is not None:
        tokens_SN = _unrolled(op, steps, token_S1, position_S, call.P, max_new_tokens)
    else:
        tokens_SN = _looped(op, steps, token_S1, position_S, call, fixed=flavor == "fixed")
    sequences = op.Reshape(tokens_SN, op.Concat(call.B, call.R, call.N, axis=0))
    sequences.dtype, sequences.shape = _I64, ir.Shape(["B", "R", "N"])
    builder.add_output(sequences, names.SEQUENCES)
    for node in builder.graph.all_nodes():
        node.metadata_props.clear()
    if flavor == "fused":
        builder.graph.opset_imports[fused.DOMAIN] = 1
    return ir.Model(builder.graph, ir_version=IR_VERSION, producer_name="gptloop")


def _write(
    op: OpBuilder,
    steps: _Steps,
    past: list[GeneratedCache],
    split_PN: ir.Value,
    places_N: ir.Value,
    step: ir.Value,
    presents: list[GeneratedCache],
) -> Attend:
    """Attention that writes K and V into their place, and notes what the caches have become."""
    own_N = op.Equal(places_N, op.Sub(step, 1))
    unseen_N = typed(op, op.Where(op.Less(places_N, step), 0.0, attention.NEVER), steps.transformer.dtype)

    def attend(layer: int, qkv: ir.Value) -> ir.Value:
        prompt, mask = steps.prompts.caches[layer], steps.prompts.mask
        context, present = attention.decode_in_place(
            op, qkv, prompt, mask, past[layer], steps.shapes, split_PN, own_N, unseen_N
        )
        presents.append(present)
        return context

    return attend


def _unrolled(
    op: OpBuilder, steps: _Steps, token_S1: ir.Value, position_S: ir.Value, P: ir.Value, max_new_tokens: int
) -> ir.Value:
    """Every step written out: tokens [S, N]."""
    tokens = [token_S1]
    caches: list[GeneratedCache | None] = [None] * steps.transformer.n_layer
    for step in range(1, max_new_tokens):
        presents: list[GeneratedCache] = []
        with scope(op, f"step.{step}"):
            position_now_S = op.Add(position_S, step - 1)
            attend = steps.appending(op, caches, op.Concat(P, [step], axis=0), presents)
            logits_SV = steps.logits(op, op.Squeeze(tokens[-1], [1]), position_now_S, attend)
            tokens.append(steps.draw.token(op, logits_SV, step))
        caches = [*presents]
    return op.Concat(*tokens, axis=1)


def _looped(
    op: OpBuilder, steps: _Steps, token_S1: ir.Value, position_S: ir.Value, call: Call, *, fixed: bool
) -> ir.Value:
    """The Loop, K and V of full length or growing: tokens [S, N]."""
    transformer = steps.transformer
    H, d, L = transformer.n_head, transformer.head_dim, transformer.n_layer
    places_N = op.Range(0, op.Squeeze(call.N), 1)
    # The last token of all is never embedded, but a cache of no length would be a shape that operators rarely meet.
    length = call.N if fixed else [0]
    split_PN = op.Concat(call.P, call.N, axis=0) if fixed else None
    empty = typed(op, op.Expand(0.0, op.Concat(call.B, [H], call.R, length, [d], axis=0)), transformer.dtype)

    def decode_one_token(
        op: OpBuilder,
        iteration: ir.Value,
        condition: ir.Value,
        token_S: ir.Value,
        position_S: ir.Value,
        step: ir.Value,
        tokens_SN: ir.Value,
        *carried: ir.Value,
    ) -> list[ir.Value]:
        past = [GeneratedCache(*carried[2 * layer : 2 * layer + 2]) for layer in range(L)]
        presents: list[GeneratedCache] = []
        if split_PN is not None:
            attend = _write(op, steps, past, split_PN, places_N, step, presents)
        else:
            # Read from shapes that the body sees: those a GPU's runtime computes with on the CPU, and need not ask for.
            P = op.Shape(steps.prompts.caches[0].key_BHdP, start=3, end=4)
            T = op.Add(op.Shape(past[0].key_BHRTd, start=3, end=4), [1])
            attend = steps.appending(op, past, op.Concat(P, T, axis=0), presents)
        logits_SV = steps.logits(op, token_S, position_S, attend)
        token_S1 = steps.draw.token(op, logits_SV, step)
        tokens_SN = op.Where(op.Equal(places_N, step), token_S1, tokens_SN)
        keys_and_values = [kv for present in presents for kv in present]
        token_S = op.Squeeze(token_S1, [1])
        # True, computed from a shape, which is on the CPU, where the Loop reads it. The condition handed on by Identity
        # would go to the GPU and back.
        go_on = op.Squeeze(op.Greater(op.Shape(token_S, start=0, end=1), 0))
        return [go_on, token_S, op.Add(position_S, 1), op.Add(step, 1), tokens_SN, *keys_and_values]

    nothing_SN = op.Expand(0, op.Concat(op.Shape(token_S1, end=1), call.N, axis=0))
    tokens_SN = op.Where(op.Equal(places_N, 0), token_S1, nothing_SN)
    first_step, always = (op.builder.initializer(ir.tensor(x), f"const_{x}".lower()) for x in (1, True))
    carried = [op.Squeeze(token_S1, [1]), position_S, first_step, tokens_SN, *[empty] * 2 * L]
    body = subgraph(op, decode_one_token, *_body_signature(transformer, fixed))
    trips = op.Sub(op.Squeeze(call.N), 1)
    outputs = op.Loop(trips, always, *carried, body=body, _outputs=len(carried))
    return outputs[3]


def _body_signature(transformer: Transformer, fixed: bool) -> tuple[list[ir.Value], list[ir.Value]]:
    H, d, dtype = transformer.n_head, transformer.head_dim, transformer.dtype
    caches = [f"{kind}.{layer}" for layer in range(transformer.n_layer) for kind in ("key", "value")]

    def values(when: str, length: str) -> list[ir.Value]:
        return [
            ir.val(f"token_{when}", _I64, ["S"]),
            ir.val(f"position_{when}", _I64, ["S"]),
            ir.val(f"step_{when}", _I64, []),
            ir.val(f"tokens_{when}", _I64, ["S", "N"]),
            *(ir.val(f"{when}_{name}", dtype, ["B", H, "R", length, d]) for name in caches),
        ]

    return (
        [ir.val("iteration", _I64, []), ir.val("condition", _BOOL, []), *values("past", "N" if fixed else "T - 1")],
        [ir.val("condition_out", _BOOL, []), *values("present", "N" if fixed else "T")],
    )
