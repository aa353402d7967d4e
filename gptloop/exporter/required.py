"""A copy of an exported file whose inputs are all required.

For runtimes that take an input with a default for a constant, as OpenVINO does (2026.4).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from gptloop import names


def require_inputs(path: str | Path, copy: str | Path) -> dict[str, npt.NDArray[Any]]:
    """Write the copy.

    Args:
        path: The .onnx file.
        copy: Where the copy goes, replaced if it is there; in the same folder, as it reads the same data file.

    Returns:
        The defaults by name, for calls that go on from nothing; of a file without any, none.

    Raises:
        ValueError: If the copy would stand in another folder.
    """
    path, copy = Path(path), Path(copy)
    if copy.parent.resolve() != path.parent.resolve():
        raise ValueError(f"{copy} is not in the folder of {path}, whose data file it reads")
    model = onnx.load(path, load_external_data=False)
    inputs = {value.name for value in model.graph.input}
    defaults = [tensor for tensor in model.graph.initializer if tensor.name in inputs]
    for tensor in defaults:
        model.graph.initializer.remove(tensor)
    for entry in [entry for entry in model.metadata_props if entry.key == names.META_GRAPH_SHA256]:
        model.metadata_props.remove(entry)  # of another graph
    partial = copy.with_name(f"{copy.name}.{os.getpid()}.partial")
    try:
        onnx.save(model, partial)
        os.replace(partial, copy)
    finally:
        partial.unlink(missing_ok=True)
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in defaults}
