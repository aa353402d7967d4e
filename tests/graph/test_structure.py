"""The structural gates, and that a graph which is heavier by one operator fails them with words to act on."""

import tomllib

import pytest
from structure import BUDGET, differences, facts, file_bytes, published

from gptloop import export
from gptloop.checkpoint import random_checkpoint
from gptloop.checkpoint.seeded import SIZES
from gptloop.exporter.inspect import inspect
from gptloop.graph import attention
from gptloop.names import PRECISIONS


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """The tiny model's real file in a precision."""
    folder = tmp_path_factory.mktemp("structure")
    return lambda precision: inspect(export(tiny.model, folder / f"{precision}.onnx", precision=precision))


@pytest.fixture
def fp32_budget():
    return tomllib.loads(BUDGET.read_text())["fp32"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_graph_is_what_the_budget_says(exported, precision):
    moved = differences(precision, facts(published("gpt2", precision), exported(precision)))
    assert not moved, moved


def test_one_more_concat_per_layer_fails_and_says_which_lines_to_change(exported, fp32_budget, monkeypatch):
    plain = attention.decode

    def with_one_more_concat(op, *arguments):
        context, present = plain(op, *arguments)
        return op.Concat(context, axis=0), present

    monkeypatch.setattr(attention, "decode", with_one_more_concat)
    heavier = facts(published("gpt2", "fp32"), exported("fp32"))
    headline, nodes, gpt2_bytes, tiny_bytes = differences("fp32", heavier).splitlines()
    assert headline == "the fp32 graph is not what tests/graph/structure.toml says:"
    layer_nodes = fp32_budget["nodes_per_layer"]
    line = 1 + BUDGET.read_text().splitlines().index(f"nodes_per_layer = {layer_nodes}")
    place = f"tests/graph/structure.toml, line {line}, [fp32] nodes_per_layer"
    assert nodes == f"nodes_per_layer: {layer_nodes} -> {layer_nodes + 1}; if that is meant, change {place}"
    assert gpt2_bytes.startswith(f"file_bytes_gpt2: {fp32_budget['file_bytes_gpt2']} -> ")
    assert tiny_bytes.startswith(f"file_bytes_tiny: {fp32_budget['file_bytes_tiny']} -> ")


def test_a_line_of_the_second_precision_is_found_in_its_own_table(fp32_budget):
    int8 = tomllib.loads(BUDGET.read_text())["int8"]
    message = differences("int8", int8 | {"opset": 22})
    lines = BUDGET.read_text().splitlines()
    line = 1 + lines.index("opset = 21", lines.index("[int8]"))
    assert f"opset: 21 -> 22; if that is meant, change tests/graph/structure.toml, line {line}, [int8] opset" in message


def test_a_precision_without_a_budget_is_told_what_to_add(fp32_budget):
    message = differences("fp64", fp32_budget)
    for key in fp32_budget:
        assert f"{key}: " in message
    assert (
        'domains: ["ai.onnx"] has no budget; add `domains = ["ai.onnx"]` to tests/graph/structure.toml, [fp64]'
        in message
    )


def test_a_line_of_the_budget_that_nothing_counts_is_to_be_removed(fp32_budget):
    opset = fp32_budget.pop("opset")
    assert opset == 21
    message = differences("fp32", fp32_budget)
    assert "opset: is no longer counted; if that is meant, remove tests/graph/structure.toml, line" in message


def test_the_bytes_computed_without_exporting_are_those_of_an_export(tmp_path, monkeypatch):
    small = {"n_layer": 1, "n_embd": 256, "n_head": 2}  # no tensor so small that it would stay in the .onnx file
    monkeypatch.setitem(SIZES, "small", small)
    real = inspect(export(random_checkpoint("small"), tmp_path / "model.onnx"))
    computed = published("small", "fp32")
    assert (computed.weight_bytes, file_bytes(computed)) == (real.weight_bytes, file_bytes(real))
    assert computed.graph_nodes + computed.block_nodes == real.graph_nodes + real.block_nodes
    assert computed.body_nodes == real.body_nodes
