"""Folders that hold the tiny model, changed as a test likes."""

import json

import pytest
from checkpoints import PUBLISHED_CONFIG
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def stored(tiny):
    """The tiny model's tensors as transformers would save them."""
    return {name: p.detach().clone() for name, p in tiny.model.named_parameters()}


@pytest.fixture
def directory(tmp_path, stored):
    """Writes a model directory; config and tensors as given, the tiny model's unless given."""

    def write(tensors=stored, config=PUBLISHED_CONFIG, **changes):
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path

    return write
