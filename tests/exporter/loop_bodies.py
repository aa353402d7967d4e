"""An exported graph, taken apart."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Those of the subgraphs, too, each after the node that holds it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)


def step_body(graph: onnx.GraphProto) -> onnx.GraphProto:
    """The body of the Loop in the Loop, which stands in a branch of an If."""
    for _ in range(2):
        graph = next(
            node.attribute[0].g
            for node in all_nodes(graph)
            if node.op_type == "Loop" and node.attribute[0].g.name != "attend_chunk"
        )
    return graph
