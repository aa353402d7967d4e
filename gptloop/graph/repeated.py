"""The checkpoint's tensors a second time, where a runtime packs them only there. Knows no tensor by its name."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir


class Repeated:
    """The tensors a second time, as initializers of a subgraph; in a file with external data, of the same bytes.

    ONNX Runtime packs a constant for its products when it loads a graph, but finds constants of the graph itself and of
    the graph around it only (session_state.cc, PrepackConstantInitializedTensors, as of 1.32): what stands two graphs
    further out is multiplied unpacked, at 0.6 times the speed with 8 rows. The packed copies, equal in content, are
    shared.

    Args:
        tensors: The outer graph's initializers.
        scope: What the names start with, since they must differ.

    Attributes:
        values: By the tensors' names.
    """

    def __init__(self, tensors: Mapping[str, ir.Value], scope: str):
        self.values = {
            name: ir.Value(name=f"{scope}/{name}", type=v.type, shape=v.shape, const_value=v.const_value)
            for name, v in tensors.items()
        }

    def store(self, subgraph: ir.Graph) -> None:
        """Make those that a node reads the subgraph's initializers.

        Not before the node around it is made: to infer its types, the builder serializes the subgraph, and would read
        every weight into memory.
        """
        for value in self.values.values():
            if value.uses():
                subgraph.register_initializer(value)
