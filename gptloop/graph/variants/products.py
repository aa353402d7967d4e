"""Graphs of nothing but the matrix products of one pass: what a generate call cannot do without.

Those with the model's matrices: the same weights through the same operators as in the generating graph, each product
with an input and an output of its own, so that a runtime can neither leave one out nor share the quantization of an
input between them. And those of attention, each layer with a K and V of its own, since they come from memory. What it
takes to run them, once at the prompts' shapes and once per further token at a step's, is the ceiling of a generate
call's speed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from gptloop.graph.model import IR_VERSION, OPSET, with_weights

ROWS, LAST_ROWS = "rows", "last_rows"  # of the prefill's last layer only the last positions are read on


def build_products(config: Any, tensors: Mapping[str, ir.TensorProtocol], precision: str) -> ir.Model:
    """Author the products of one checkpoint.

    Args:
        config: As `gptloop.graph.build`, like what follows.
        tensors: The checkpoint's tensors.
        precision: Theirs.

    Returns:
        A model with, for each product, an input `x.NAME`, float32 [rows, in], and an output `y.NAME`, [rows, out]; of
        those behind the last layer's attention, [last_rows, in] and [last_rows, out].
    """
    builder, weights = with_weights(tensors, precision)
    for name in product_names(config):
        head = name == "lm_head"
        shape = tensors[head_name(tensors) if head else f"{name}.weight"].shape.numpy()
        d_out, d_in = shape if head else reversed(shape)
        behind = head or (name.startswith(f"h.{config.n_layer - 1}.") and not name.endswith("c_attn"))
        rows = LAST_ROWS if behind else ROWS
        x = builder.input(f"x.{name}", ir.DataType.FLOAT, [rows, d_in])
        y = weights.head(builder.op, x).unscaled if head else weights.linear(builder.op, name, x)
        y.dtype, y.shape = ir.DataType.FLOAT, ir.Shape([rows, d_out])
        builder.add_output(y, f"y.{name}")
    for name in [name for name, value in builder.graph.initializers.items() if not value.uses()]:
        del builder.graph.initializers[name]  # embeddings and layer norms, of which a runtime would complain
    return ir.Model(builder.graph, ir_version=IR_VERSION)


PROMPT, EARLIER, BLOCK = "prompt", "earlier", "block"  # the parts of the KV cache, as gptloop.graph.attention has them


def build_attention_products(config: Any, parts: Sequence[str]) -> ir.Model:
    """Author the products of attention alone, in float32, for all layers.

    Args:
        config: As `build_products`.
        parts: What is attended to: of the prefill, `PROMPT`; of a step, all three.

    Returns:
        A model with inputs for each part: K and V of each layer, `PART.key.LAYER` and `PART.value.LAYER`, and what they
        are multiplied by, the same for all layers, `PART.query.rows` and `PART.probs.rows`; for the last layer, whose
        prefill attends from the last positions only, the prompt's `last_rows`. And with an output for each product.
    """
    builder = GraphBuilder(ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="attention"))
    op, H, d = builder.op, config.n_head, config.n_embd // config.n_head

    @functools.cache
    def stored(name: str, *shape: int | str) -> ir.Value:
        return builder.input(name, ir.DataType.FLOAT, list(shape))

    for part, layer in itertools.product(parts, range(config.n_layer)):
        length = f"{part}_length"
        if part == PROMPT:
            batch: tuple[int | str, ...] = ("B", H)
            rows = LAST_ROWS if layer == config.n_layer - 1 else ROWS
            height: int | str = rows
            key = stored(f"{part}.key.{layer}", *batch, d, length)
        else:
            batch, rows, height = ("B", H, "R"), ROWS, 1
            key = op.Transpose(stored(f"{part}.key.{layer}", *batch, length, d), perm=[0, 1, 2, 4, 3])
        value = stored(f"{part}.value.{layer}", *batch, length, d)
        for kind, by, inner, outer in (("query", key, d, length), ("probs", value, length, d)):
            y = op.MatMul(stored(f"{part}.{kind}.{rows}", *batch, height, inner), by)
            y.dtype, y.shape = ir.DataType.FLOAT, ir.Shape([*batch, height, outer])
            builder.add_output(y, f"y.{part}.{kind}.{layer}")
    return ir.Model(builder.graph, ir_version=IR_VERSION)


def product_names(config: Any) -> list[str]:
    """The products of a pass, in their order."""
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    return [*(f"h.{layer}.{part}" for layer in range(config.n_layer) for part in parts), "lm_head"]


def head_name(tensors: Mapping[str, Any]) -> str:
    """The tensor of the LM head."""
    return "lm_head.weight" if "lm_head.weight" in tensors else "wte.weight"


def product_bytes(config: Any, tensors: Mapping[str, ir.TensorProtocol]) -> int:
    """Bytes of the matrices that a pass reads."""
    named = [head_name(tensors) if name == "lm_head" else f"{name}.weight" for name in product_names(config)]
    return sum(tensors[name].nbytes for name in named)
