"""Fixtures of the browser's tests: a file in both precisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cut_products
import pytest

from gptloop import OnnxLoop, export


@dataclass(frozen=True)
class Exported:
    path: Path
    onnx: OnnxLoop


@pytest.fixture(scope="module")
def exported(tiny, tiny_model, tmp_path_factory):
    """The tiny model by precision."""
    with cut_products.as_here():
        int8 = export(tiny_model(), tmp_path_factory.mktemp("int8") / "int8.onnx", precision="int8")
    return {"fp32": Exported(tiny.path, tiny.onnx), "int8": Exported(int8, OnnxLoop(int8, device="cpu", threads=1))}
