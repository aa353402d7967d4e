"""The whole graph: prefill, then the Loop whose body decodes one token per row.

Reads top to bottom as a generate call runs. Knows the other modules of this package; not files, runtimes or torch.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import onnx_ir as ir
from onnxscript import GraphBuilder

from gptloop import names
from gptloop.graph import attention, sampling, threefry
from gptloop.graph.sampling import NEVER
from gptloop.graph.scope import scope, subgraph
from gptloop.graph.transformer import Transformer

OPSET = 21
IR_VERSION = 10  # the one that came with opset 21, so that every runtime of that age reads the file


class Call(NamedTuple):
    """Sizes of one generate call, int64 [1] each."""

    B: ir.Value
    R: ir.Value
    P: ir.Value
    N: ir.Value


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
    weights = {name: builder.initializer(tensor, name) for name, tensor in tensors.items()}
    transformer = Transformer(weights, activation=config.activation_function, epsilon=config.layer_norm_epsilon)

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
        uniforms_NS1 = draw_uniforms(op, seed, call)
    with scope(op, "prefill"):
        logits_BV, prompt_caches = prefill(op, transformer, config, input_ids, call)
        first_S = sampling.sample(op, per_row(op, call, logits_BV), op.Gather(uniforms_NS1, 0, axis=0), settings)

    later_TS = decode_loop(op, transformer, config, first_S, prompt_caches, uniforms_NS1, settings, call)
    sequences_SN = op.Transpose(op.Concat(op.Unsqueeze(first_S, [0]), later_TS, axis=0), perm=[1, 0])
    sequences = op.Reshape(sequences_SN, op.Concat(call.B, call.R, call.N, axis=0))
    sequences.dtype, sequences.shape = i64, ir.Shape(["B", "R", "N"])
    builder.add_output(sequences, names.SEQUENCES)
    for node in graph.all_nodes():
        node.metadata_props.clear()  # the builder's notes on scopes, which the names hold already
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="gptloop")


def per_row(op, call: Call, x: ir.Value) -> ir.Value:
    """Repeat a per-prompt value for the prompt's candidates: [B], [1] or [B, C] -> [S, 1] or [S, C]."""
    x = op.Reshape(x, [0, 1, -1])  # [B, 1, C]
    x_BRC = op.Expand(x, op.Concat(call.B, call.R, [1], axis=0))
    return op.Reshape(x_BRC, op.Concat(op.Mul(call.B, call.R), op.Shape(x, start=2, end=3), axis=0))


def draw_uniforms(op, seed: ir.Value, call: Call) -> ir.Value:
    """The call's uniform numbers, one per row and step; float32 [N, S, 1].

    Keyed by the prompt's seed and counted by (candidate, step), as gptloop.threefry has it.
    """

    def count(size_1):
        values = op.Cast(op.Range(0, op.Squeeze(size_1), 1), to=ir.DataType.INT32)
        return threefry.Word(op.Div(values, threefry.LIMB), op.Mod(values, threefry.LIMB))

    key = threefry.words_of_int64(op, op.Unsqueeze(seed, [0, 2]))  # [1, B, 1]
    step = threefry.Word(*(op.Unsqueeze(limb, [1, 2]) for limb in count(call.N)))  # [N, 1, 1]
    word, _ = threefry.threefry2x32(op, key, (count(call.R), step))
    return op.Reshape(threefry.uniform(op, word), op.Concat(call.N, [-1], [1], axis=0))


def prefill(op, transformer: Transformer, config, input_ids: ir.Value, call: Call):
    """The pass over the prompts: logits [B, V] of their last positions, and every layer's PromptCache."""
    positions_P = op.Range(0, op.Squeeze(call.P), 1)
    x = op.Reshape(transformer.embed(op, input_ids, positions_P), [-1, config.n_embd])  # [B * P, D]
    future_PP = op.Less(op.Unsqueeze(positions_P, [1]), positions_P)
    mask_PP = op.Where(future_PP, NEVER, 0.0)
    shape_BP3Hd = op.Concat(call.B, call.P, [3, config.n_head, config.n_embd // config.n_head], axis=0)

    caches = []
    for layer in range(config.n_layer):
        # Of the last layer nothing but the last position is read, except its K and V.
        last = layer == config.n_layer - 1

        def attend(qkv, mask=None if last else mask_PP):
            context, cache = attention.prefill(op, qkv, shape_BP3Hd, config.n_embd, mask)
            caches.append(cache)
            return context

        x = transformer.block(op, layer, x, attend, last_position(op, x, call, config) if last else None)
    return transformer.lm_head(op, x), caches


def last_position(op, x: ir.Value, call: Call, config) -> ir.Value:
    """[B * P, D] -> [B, D]."""
    x_BPD = op.Reshape(x, op.Concat(call.B, call.P, [config.n_embd], axis=0))
    return op.Gather(x_BPD, -1, axis=1)


def decode_loop(op, transformer, config, first_S, prompt_caches, uniforms_NS1, settings, call: Call) -> ir.Value:
    """The standard Loop over the new tokens after the first; int64 [N - 1, S].

    Carried values are the last token and every layer's generated K and V, which start empty; the prompts' K and V, the
    weights and the settings are read from the outer scope.
    """
    H, d = config.n_head, config.n_embd // config.n_head
    shapes = attention.DecodeShapes(
        BR3Hd=op.Concat(call.B, call.R, [3, H, d], axis=0),
        BHRd=op.Concat(call.B, [H], call.R, [d], axis=0),
        BHR1d=op.Concat(call.B, [H], call.R, [1, d], axis=0),
    )
    none_yet = op.Expand(0.0, op.Concat(call.B, [H], call.R, [0, d], axis=0))

    def decode_one_token(op, iteration, condition, token_S, *past):
        generated_1 = op.Unsqueeze(op.Add(iteration, 1), [0])  # T, with this token
        x = transformer.embed(op, token_S, op.Add(call.P, iteration))  # [S, D]; the token stands at position P + T - 1
        split_PT = op.Concat(call.P, generated_1, axis=0)
        present = []
        for layer, prompt_cache in enumerate(prompt_caches):

            def attend(qkv, prompt=prompt_cache, past_kv=past[2 * layer : 2 * layer + 2]):
                context, kv = attention.decode(op, qkv, prompt, past_kv, shapes, config.n_embd, split_PT)
                present.extend(kv)
                return context

            x = transformer.block(op, layer, x, attend)
        uniform_S1 = op.Gather(uniforms_NS1, op.Squeeze(generated_1), axis=0)
        token_S = sampling.sample(op, transformer.lm_head(op, x), uniform_S1, settings)
        return [op.Identity(condition), token_S, *present, op.Identity(token_S)]

    i64, f32, shape_past = ir.DataType.INT64, ir.DataType.FLOAT, ["B", H, "R", "T", d]
    kv_names = [f"{kind}.{layer}" for layer in range(config.n_layer) for kind in ("key", "value")]
    body = subgraph(
        op,
        decode_one_token,
        inputs=[
            ir.val("iteration", i64, []),
            ir.val("condition", ir.DataType.BOOL, []),
            ir.val("token_past", i64, ["S"]),
            *(ir.val(f"past_{kv}", f32, shape_past) for kv in kv_names),
        ],
        outputs=[
            ir.val("condition_out", ir.DataType.BOOL, []),
            ir.val("token_present", i64, ["S"]),
            *(ir.val(f"present_{kv}", f32, ["B", H, "R", "T + 1", d]) for kv in kv_names),
            ir.val("token", i64, ["S"]),
        ],
    )
    trips = op.Sub(op.Squeeze(call.N), 1)
    *_, tokens = op.Loop(trips, True, first_S, *[none_yet] * len(kv_names), body=body, _outputs=len(kv_names) + 2)
    # A Loop of no trips cannot know S: its scan output is [0, 0] in ONNX Runtime.
    return op.Reshape(tokens, op.Concat(op.Sub(call.N, [1]), op.Mul(call.B, call.R), axis=0), allowzero=1)
