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

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from gptloop import names
from gptloop.graph.attention import DecodeShapes
from gptloop.graph.call import Call, on_host, per_row, uniforms
from gptloop.graph.model import IR_VERSION, author
from gptloop.graph.prefill import prefill
from gptloop.graph.scope import scope
from gptloop.graph.variants import fused
from gptloop.graph.variants.lean_steps import Draw, Steps, looped, unrolled

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT
_INPUTS: dict[str, tuple[ir.DataType, list[int | str]]] = {
    names.INPUT_IDS: (_I64, ["B", "P"]),
    names.ATTENTION_MASK: (_I64, ["B", "P"]),
    names.NUM_RETURN_SEQUENCES: (_I64, [1]),
    names.TEMPERATURE: (_F32, ["B_temperature"]),
    names.TOP_K: (_I64, [1]),  # at least 1, as TopK reads it: on the CPU, so that no step has to ask for it
}


def build_lean(
    config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str, flavor: str, max_new_tokens: int | None
) -> ir.Model:
    """Author a graph of one of `gptloop.names.LEAN_FLAVORS`.

    Args:
        config: As `gptloop.graph.build`, like what follows.
        tensors: The checkpoint's tensors.
        precision: Theirs.
        flavor: One of `gptloop.names.LEAN_FLAVORS`.
        max_new_tokens: Of "unrolled" only.

    Returns:
        A model with a part of the inputs of `gptloop.names` (for "unrolled", `uniforms` in place of `seed`) and the
        output `sequences`.
    """
    builder, transformer = author(config, tensors, precision)
    op = builder.op
    inputs = {name: builder.input(name, dtype, shape) for name, (dtype, shape) in _INPUTS.items()}
    call, uniforms_NS1 = _call(builder, inputs[names.INPUT_IDS], inputs[names.NUM_RETURN_SEQUENCES], max_new_tokens)
    draw = Draw(uniforms_NS1, per_row(op, call, inputs[names.TEMPERATURE]), inputs[names.TOP_K])
    with scope(op, "prefill"):
        logits_BV, prompts = prefill(op, transformer, inputs[names.INPUT_IDS], inputs[names.ATTENTION_MASK], call)
    with scope(op, "first"):
        token_S1 = draw.token(op, logits_BV.map(lambda x: per_row(op, call, x)), 0)

    shapes = DecodeShapes.of(op, call.B, call.R, transformer.n_head, transformer.head_dim)
    decoder = fused.FusedTransformer.of(transformer) if flavor == "fused" else transformer
    steps = Steps(decoder, prompts, shapes, draw)
    position_S = op.Squeeze(per_row(op, call, prompts.lengths_B1), [1])
    if max_new_tokens is not None:
        tokens_SN = unrolled(op, steps, token_S1, position_S, max_new_tokens)
    else:
        tokens_SN = looped(op, steps, token_S1, position_S, call, fixed=flavor == "fixed")
    sequences = op.Reshape(tokens_SN, op.Concat(call.B, call.R, call.N, axis=0))
    sequences.dtype, sequences.shape = _I64, ir.Shape(["B", "R", "N"])
    builder.add_output(sequences, names.SEQUENCES)
    for node in builder.graph.all_nodes():
        node.metadata_props.clear()
    if flavor == "fused":
        builder.graph.opset_imports[fused.DOMAIN] = 1
    return ir.Model(builder.graph, ir_version=IR_VERSION, producer_name="gptloop")


def _call(builder: GraphBuilder, ids: ir.Value, R: ir.Value, max_new_tokens: int | None) -> tuple[Call, ir.Value]:
    """The call's sizes and uniform numbers: made from a seed, or an input where the number of tokens is fixed."""
    op = builder.op
    if max_new_tokens is None:
        new_tokens = builder.input(names.MAX_NEW_TOKENS, _I64, [1])
        seed = builder.input(names.SEED, _I64, ["B"])
    else:
        uniforms_NS1 = builder.input(names.UNIFORMS, _F32, [max_new_tokens, "S", 1])
        new_tokens = op.Shape(uniforms_NS1, start=0, end=1)
    call = Call(B=op.Shape(ids, start=0, end=1), R=R, P=op.Shape(ids, start=1, end=2), N=new_tokens)
    if max_new_tokens is None:
        with scope(op, "uniforms"):
            uniforms_NS1 = uniforms(op, seed, call)
        call = call._replace(N=on_host(op, call.B, call.N))
    return call, uniforms_NS1
