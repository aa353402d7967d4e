"""A graph of nothing but the products of one pass with the model's matrices: what a generate call cannot do without.

The same weights through the same operators as in the generating graph, each product with an input and an output of its
own, so that a runtime can neither leave one out nor share the quantization of an input between them. What it takes to
run it, once at the prompts' shapes and once per further token at a step's, is the ceiling of a generate call's speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from gptloop.graph.model import IR_VERSION, with_weights

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
        y = weights.head(builder.op, x) if head else weights.linear(builder.op, name, x)
        y.dtype, y.shape = ir.DataType.FLOAT, ir.Shape([rows, d_out])
        builder.add_output(y, f"y.{name}")
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
