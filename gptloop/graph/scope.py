"""Names for the parts of the graph, so that a node says where it belongs: `decode/h.3/Gemm_node_41`.

Subgraphs need them, too: ONNX wants every value's name once across all graphs of a model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx_ir as ir
from onnxscript import OpBuilder

Kinds = list[tuple[ir.DataType, Sequence[int | str | None]]]
"""Types and shapes of a branch's values."""
GROWS = None
"""A dimension that changes from step to step. It has no name: in ONNX, a name stands for one size in all of a run, and
a runtime may take values of equal names for equally large ("Runtime Semantics of Shape Annotations", onnx 1.23)."""


@contextlib.contextmanager
def scope(op: OpBuilder, name: str) -> Iterator[None]:
    """Prefix the names of the nodes and values made in this block with `name`."""
    op.builder.push_module(name)
    try:
        yield
    finally:
        op.builder.pop_module()


def typed(op: OpBuilder, x: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A float32 value in another float type; where that is float32, the value itself."""
    return x if dtype == ir.DataType.FLOAT else op.Cast(x, to=dtype)


def subgraph(
    op: OpBuilder, trace: Callable[..., Any], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]
) -> ir.Graph:
    """Trace a plain function into the body of a Loop or a branch of an If, in a scope of the function's name."""
    with scope(op, trace.__name__):
        return op.builder.subgraph(trace, inputs, outputs, name=trace.__name__)


def branches(
    op: OpBuilder,
    condition: ir.Value,
    then: Callable[[OpBuilder], Sequence[ir.Value]],
    otherwise: Callable[[OpBuilder], Sequence[ir.Value]],
    outputs: Sequence[tuple[ir.DataType, Sequence[int | str | None]]],
) -> Sequence[ir.Value]:
    """An If whose branches are plain functions that return values of these types and shapes.

    Only the branch that is taken costs time, and both may read what stands around them.
    """

    def branch(trace: Callable[[OpBuilder], Sequence[ir.Value]]) -> ir.Graph:
        return subgraph(op, trace, [], [ir.val("", dtype, shape) for dtype, shape in outputs])

    then_branch, else_branch = branch(then), branch(otherwise)
    # Of values whose shape is known, the builder infers none. It would serialize all that is in the branches, once for
    # each If around it, which took a fifth of an export's time. So they are shaped once the node is made.
    number = op.builder.graph.num_nodes()
    values = [ir.val(f"If_{number}_{i}", dtype, [0] * len(shape)) for i, (dtype, shape) in enumerate(outputs)]
    op.If(condition, then_branch=then_branch, else_branch=else_branch, _outputs=values)
    for value, (_, shape) in zip(values, outputs, strict=True):
        value.shape = ir.Shape(shape)
    return values
