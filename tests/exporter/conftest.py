"""Two models of one shape, to be exported over each other."""

from __future__ import annotations

import pytest
from exported_files import tokens

from gptloop import export


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
