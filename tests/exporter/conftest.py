"""The trained checkpoint in folders that a test may change."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def directory(trained, tmp_path) -> Path:
    """A copy of the trained checkpoint that a test may change."""
    return Path(shutil.copytree(trained.directory, tmp_path / "checkpoint"))


@pytest.fixture(scope="module")
def bare(trained, tmp_path_factory) -> Path:
    """The trained checkpoint without its tokenizer."""
    folder = tmp_path_factory.mktemp("bare")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(trained.directory / name, folder)
    return folder
