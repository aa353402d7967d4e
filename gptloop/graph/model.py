"""The whole graph, as a generate call runs: settings, random numbers, prefill, the first token, the Loop.

Knows the other modules of this package; not files, runtimes or torch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from gptloop import names
from gptloop.graph import loop, sampling
from gptloop.graph.call import Call, per_row, uniforms
from gptloop.graph.prefill import prefill
from gptloop.graph.scope import scope
from gptloop.graph.transformer import Transformer

OPSET = 21
IR_VERSION = 10  # the one that came with opset 21, so that every runtime of that age reads the file


def build(config: Any, tensors: Mapping[str, ir.TensorProtocol]) -> ir.Model:
    """Author the graph of one checkpoint.

    Args:
        config: A `transformers.GPT2Config`, checked by `gptloop.checkpoint`.
        tensors: The checkpoint's tensors by their published names; products as [in, out], `lm_head.weight` only where
            it is not the token embedding. They become the outer graph's initializers, unread.

    Returns:
        A model with the inputs and outputs of `gptloop.names`, domain ai.onnx only.
    """
    graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="gptloop")
    builder = GraphBuilder(graph)
    op = builder.op
    transformer = Transformer(config, {name: builder.initializer(tensor, name) for name, tensor in tensors.items()})

    i64, f32 = ir.DataType.INT64, ir.DataType.FLOAT
    input_ids = builder.input(names.INPUT_IDS, i64, ["B", "P"])
    max_new_tokens = builder.input(names.MAX_NEW_TOKENS, i64, [1])
    num_return_sequences = builder.input(names.NUM_RETURN_SEQUENCES, i64, [1])
    temperature = builder.input(names.TEMPERATURE, f32, ["B_temperature"])
    top_k = builder.input(names.TOP_K, i64, ["B_top_k"])
    seed = builder.input(names.SEED, i64, ["B"])

    call = Call(
        B=op.Shape(input_ids, start=0, end=1),
        R=num_return_sequences,
        P=op.Shape(input_ids, start=1, end=2),
        N=max_new_tokens,
    )
    with scope(op, "settings"):
        settings = sampling.settings(op, temperature, top_k, functools.partial(per_row, op, call))
    with scope(op, "uniforms"):
        uniforms_NS1 = uniforms(op, seed, call)
    with scope(op, "prefill"):
        logits_BV, prompts = prefill(op, transformer, input_ids, call)
        first_S = sampling.sample(op, per_row(op, call, logits_BV), op.Gather(uniforms_NS1, 0, axis=0), settings)
    later_TS = loop.decode(op, transformer, first_S, prompts, uniforms_NS1, settings, call)

    sequences_SN = op.Transpose(op.Concat(op.Unsqueeze(first_S, [0]), later_TS, axis=0), perm=[1, 0])
    sequences = op.Reshape(sequences_SN, op.Concat(call.B, call.R, call.N, axis=0))
    sequences.dtype, sequences.shape = i64, ir.Shape(["B", "R", "N"])
    builder.add_output(sequences, names.SEQUENCES)
    for node in graph.all_nodes():
        node.metadata_props.clear()  # the builder's notes on scopes, which the names hold already
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="gptloop")
