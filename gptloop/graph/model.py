"""The whole graph, as a generate call runs: settings, random numbers, prefill, the tokens.

Knows the other modules of this package; not files, runtimes or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from gptloop import names
from gptloop.graph import loop
from gptloop.graph.blocks import Blocks
from gptloop.graph.call import Call, on_host
from gptloop.graph.refusal import accept
from gptloop.graph.repeated import Repeated
from gptloop.graph.rules import Rules
from gptloop.graph.scope import scope
from gptloop.graph.start import start
from gptloop.graph.state import Past, add_defaults, add_present, past_inputs, sizes
from gptloop.graph.transformer import Transformer
from gptloop.graph.weights import Float32Weights, HalfWeights, Int8Weights, Weights

OPSET = 21
IR_VERSION = 10  # the one that came with opset 21, so that every runtime of that age reads the file

FLOAT_TYPES = {"fp32": ir.DataType.FLOAT, "fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# What ONNX Runtime packs for its products; on a GPU, for which half precision is meant, it does not.
PACKED = ("fp32", "int8")

_I64, _F32 = ir.DataType.INT64, ir.DataType.FLOAT
INPUTS: dict[str, tuple[ir.DataType, list[int | str]]] = {
    names.INPUT_IDS: (_I64, ["B", "P"]),
    names.ATTENTION_MASK: (_I64, ["B", "P"]),
    names.MAX_NEW_TOKENS: (_I64, ["B_max_new_tokens"]),
    names.MIN_NEW_TOKENS: (_I64, ["B_min_new_tokens"]),
    names.NUM_RETURN_SEQUENCES: (_I64, ["B_num_return_sequences"]),
    names.FIRST_CANDIDATE: (_I64, ["B_first_candidate"]),
    names.TEMPERATURE: (_F32, ["B_temperature"]),
    names.TOP_K: (_I64, ["B_top_k"]),
    names.TOP_P: (_F32, ["B_top_p"]),
    names.MIN_P: (_F32, ["B_min_p"]),
    names.REPETITION_PENALTY: (_F32, ["B_repetition_penalty"]),
    names.NO_REPEAT_NGRAM_SIZE: (_I64, ["B_no_repeat_ngram_size"]),
    names.SEQUENCE_BIAS_IDS: (_I64, ["B_sequence_bias_ids", "Q_bias", "W_bias"]),
    names.SEQUENCE_BIAS: (_F32, ["B_sequence_bias", "Q_bias"]),
    names.EOS_TOKEN_IDS: (_I64, ["B_eos_token_ids", "M"]),
    names.STOP_SEQUENCES: (_I64, ["B_stop_sequences", "Q_stop", "W_stop"]),
    names.PAD_TOKEN_ID: (_I64, ["B_pad_token_id"]),
    names.RETURN_LOGPROBS: (ir.DataType.BOOL, ["B_return_logprobs"]),
    names.SEED: (_I64, ["B"]),
}


def build(
    config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str = "fp32", *, repeat_weights: bool = True
) -> ir.Model:
    """Author the graph of one checkpoint.

    Args:
        config: A `transformers.GPT2Config`, checked by `gptloop.checkpoint`.
        tensors: The checkpoint's tensors by their published names; products as [in, out], `lm_head.weight` only where
            it is not the token embedding. They become the outer graph's initializers, unread.
        precision: "fp32", "fp16", "bf16" or "int8", of which the tensors must be.
        repeat_weights: Whether the steps of a precision of `PACKED` read initializers of their own, of the same
            tensors, which costs nothing where these are stored as external data (`repeated.Repeated` says what for).

    Returns:
        A model with the inputs and outputs of `gptloop.names`, domain ai.onnx only.
    """
    builder, transformer = author(config, tensors, precision)
    op = builder.op
    described = INPUTS | past_inputs(transformer)
    inputs = {name: builder.input(name, dtype, shape) for name, (dtype, shape) in described.items()}
    with scope(op, "bounds"):
        inputs, accepted_B, refused_B = accept(op, config, inputs)
    L, G, _ = sizes(op, inputs)
    call = read_call(op, inputs)._replace(L=L, G=G)
    past = Past.of(op, inputs, transformer, call)
    rules = Rules.read(op, inputs, call, accepted_B)
    blocks = Blocks.of(op, op.Squeeze(call.steps_done(op)), op.Squeeze(call.steps(op)), config.n_positions)
    started = start(op, transformer, inputs, past, rules, call, blocks)
    repeated = Repeated(builder.graph.initializers, "steps") if repeat_weights and precision in PACKED else None
    generated = loop.generate(op, transformer, started, rules, call, blocks, past.wanted, repeated)

    shape_BRN = op.Concat(call.B, call.R, op.Shape(generated.drawn.token, start=1), axis=0)
    for name, value_SN in zip((names.SEQUENCES, names.LOGPROBS, names.RAW_LOGPROBS), generated.drawn, strict=True):
        value = op.Reshape(value_SN, shape_BRN, allowzero=1)  # without new tokens where all rows had ended
        value.dtype, value.shape = _I64 if name == names.SEQUENCES else _F32, ir.Shape(["B", "R", "N"])
        builder.add_output(value, name)
    refused_B.dtype, refused_B.shape = _I64, ir.Shape(["B"])
    builder.add_output(refused_B, names.REFUSED)
    ended = op.Reshape(generated.ended_S, op.Concat(call.B, call.R, axis=0))
    ended.dtype, ended.shape = ir.DataType.BOOL, ir.Shape(["B", "R"])
    builder.add_output(ended, names.ENDED)
    add_present(builder, transformer, started.prompts.caches, started.rows, generated.block)
    add_defaults(builder, transformer)
    for node in builder.graph.all_nodes():
        node.metadata_props.clear()  # the builder's notes on scopes, which the names hold already
    return ir.Model(builder.graph, ir_version=IR_VERSION, producer_name="gptloop")


def author(config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str) -> tuple[GraphBuilder, Transformer]:
    """An empty graph whose initializers are the tensors, and the layers that read them; arguments as `build`."""
    builder, weights = with_weights(tensors, precision)
    return builder, Transformer(config, weights)


def with_weights(tensors: Mapping[str, ir.TensorProtocol], precision: str) -> tuple[GraphBuilder, Weights]:
    """An empty graph whose initializers are the tensors, and how they are read; arguments as `build`."""
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="gptloop"))
    initializers = {name: builder.initializer(tensor, name) for name, tensor in tensors.items()}
    if precision == "int8":
        return builder, Int8Weights(builder.op, initializers)
    if precision == "fp32":
        return builder, Float32Weights(initializers)
    return builder, HalfWeights(initializers, FLOAT_TYPES[precision])


def read_call(op: OpBuilder, inputs: Mapping[str, ir.Value]) -> Call:
    """A call's sizes, from the graph's inputs by name; of one that goes on from nothing.

    Of candidates and new tokens, as many as the prompt that asks for the most.
    """
    B = op.Shape(inputs[names.INPUT_IDS], start=0, end=1)
    R, N = (op.ReduceMax(on_host(op, B, inputs[name])) for name in (names.NUM_RETURN_SEQUENCES, names.MAX_NEW_TOKENS))
    return Call(
        B=B,
        R=R,
        P=op.Shape(inputs[names.INPUT_IDS], start=1, end=2),
        N=N,
        L=op.Constant(value_ints=[0]),
    )
