"""A graph that scores text instead of generating it: the model's opinion of every next token of given ids.

The layers are those of the generating graph, in the same precision, so that what is measured here is what generates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder, OpBuilder

from gptloop import names
from gptloop.graph import prompt_attention
from gptloop.graph.model import IR_VERSION, author
from gptloop.graph.operators import END
from gptloop.graph.prompt_attention import PrefillShapes
from gptloop.graph.transformer import Transformer

LOGPROBS, MOST_LIKELY = "logprobs", "most_likely"


def build_scorer(config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str) -> ir.Model:
    """Author the scoring graph of one checkpoint.

    Args:
        config: As `gptloop.graph.build`, like what follows.
        tensors: The checkpoint's tensors.
        precision: Theirs.

    Returns:
        A model with input `input_ids`, int64 [B, P], and outputs `logprobs`, float32 [B, P - 1], the log-probability of
        each id given those before it, and `most_likely`, int64 [B, P - 1], the most likely id there.
    """
    return score_with(*author(config, tensors, precision))


def score_with(builder: GraphBuilder, transformer: Transformer) -> ir.Model:
    """The same with layers that are there already, in the graph of `builder`."""
    op = builder.op
    ids_BP = builder.input(names.INPUT_IDS, ir.DataType.INT64, ["B", "P"])
    B, P = op.Shape(ids_BP, start=0, end=1), op.Shape(ids_BP, start=1, end=2)
    newest_BP, positions_P = _reversed(op, ids_BP, 1), _reversed(op, op.Range(0, op.Squeeze(P), 1), 0)
    no_padding = prompt_attention.padding_mask(op, op.Expand(1, op.Shape(ids_BP)), transformer.dtype)
    mask = prompt_attention.causal_mask(op, no_padding, P, transformer.dtype)
    shapes = PrefillShapes.of(op, B, P, transformer.n_head, transformer.head_dim)

    def attend(layer: int, qkv: ir.Value) -> ir.Value:
        context, _ = prompt_attention.attend(op, qkv, shapes, mask)
        return context

    x = op.Reshape(transformer.embed(op, newest_BP, positions_P), [-1, transformer.n_embd])  # [B * P, D]
    logits_BPV = op.Reshape(transformer.logits(op, x, attend).scaled(op), op.Concat(B, P, [-1], axis=0))
    before_BPV = op.Slice(logits_BPV, [1], [END], [1])
    next_BP1 = op.Unsqueeze(op.Slice(newest_BP, [0], [-1], [1]), [2])
    logprobs_BP1 = op.GatherElements(op.LogSoftmax(before_BPV, axis=-1), next_BP1, axis=2)
    builder.add_output(_reversed(op, op.Squeeze(logprobs_BP1, [2]), 1), LOGPROBS)
    builder.add_output(_reversed(op, op.ArgMax(before_BPV, axis=-1, keepdims=0), 1), MOST_LIKELY)
    return ir.Model(builder.graph, ir_version=IR_VERSION, producer_name="gptloop")


def _reversed(op: OpBuilder, x: ir.Value, axis: int) -> ir.Value:
    """Prompts attend from their newest token to the oldest."""
    return op.Slice(x, [-1], [-END], [axis], [-1])
