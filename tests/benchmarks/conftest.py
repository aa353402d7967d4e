"""The files that contenders read, of the tiny model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchmarks.contenders import Files


@pytest.fixture(scope="session")
def files(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A checkpoint and both exports; contenders put their own files beside them."""
    from benchmarks.contenders import Files  # noqa: PLC0415  (most tests here do without torch and ONNX Runtime)
    from gptloop import export  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("contenders")
    tiny.model.save_pretrained(folder / "tiny")
    files = Files.of("tiny", folder, folder / "tiny", "random, seed 0")
    export(files.checkpoint, files.onnx)
    export(files.checkpoint, files.onnx_int8, precision="int8")
    return files
