"""The trained checkpoint in folders that a test may change, two models of one shape, and what inspect counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from exported_files import export, tokens

from gptloop.exporter.inspect import inspect


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


@pytest.fixture(scope="session")
def old(tiny_model):
    return tiny_model(n_layer=1, weights_seed=1)


@pytest.fixture(scope="session")
def new(tiny_model):
    return tiny_model(n_layer=1, weights_seed=2)


@pytest.fixture(scope="session")
def old_tokens(old, tmp_path_factory):
    return tokens(export(old, tmp_path_factory.mktemp("old") / "model.onnx"))


@pytest.fixture(scope="session")
def new_tokens(new, old_tokens, tmp_path_factory):
    found = tokens(export(new, tmp_path_factory.mktemp("new") / "model.onnx"))
    assert found != old_tokens
    return found


@pytest.fixture(scope="session")
def structure(tiny):
    return inspect(tiny.path)
