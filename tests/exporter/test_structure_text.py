"""What inspect prints, against what it has counted."""

from gptloop.exporter.inspect import inspect
from gptloop.exporter.structure_text import render


def test_the_text_holds_what_the_structure_holds(tiny, structure):
    text = render(structure)
    for key, value in structure.metadata.items():
        if key != "gptloop_config":
            assert f"{key.removeprefix('gptloop_')}" in text
            assert value in text
    for named in ("n_layer 2", "n_head 4", "n_embd 32", "n_positions 64", "vocab_size 97"):
        assert named in text
    for name, size in structure.file_bytes.items():
        assert f"{size:,} bytes  {name}" in text
    assert f"{structure.weight_bytes:,} bytes in the outer graph, 0 tensors in a step" in text
    assert f"{len(structure.block_weights)} tensors named again in the outer Loop's body" in text
    assert f"nodes outside the Loop: {structure.graph_nodes.total()}" in text
    assert f"nodes of a block of steps: {structure.block_nodes.total()}" in text
    assert f"nodes of a step: {structure.body_nodes.total()}" in text
    assert f"nodes per layer of a step: {structure.nodes_per_layer:g}" in text
    assert f"LayerNormalization {structure.body_nodes['ai.onnx', 'LayerNormalization']}" in text
    assert "4 x float [B, 4, R, ?, 8]" in text
    for name in [*structure.inputs, *structure.outputs]:
        assert name.replace(".0.", ".{0..1}.").replace(".1.", ".{0..1}.") in text


def test_the_state_of_all_layers_is_shown_in_a_line_a_kind_and_marked_optional(open_tiny, structure):
    lines = render(structure).splitlines()
    assert sum("past_prompt" in line for line in lines) == 2
    (line,) = (line for line in lines if "past_prompt.{0..1}.key" in line)
    assert line.split() == ["past_prompt.{0..1}.key", "float", "[B_past,", "4,", "8,", "L]", "optional"]
    optional = [line.split()[0] for line in lines if line.endswith("  optional")]
    assert optional[:5] == ["past_sizes", "past_sequences", "past_ended", "return_state", "uniforms"]
    assert optional[5] == "past_prompt.{0..1}.key"
    assert len(optional) == 5 + 3 * 2
    one_layer = render(inspect(open_tiny(n_layer=1).path))
    assert "  present_rows.0.value " in one_layer
    assert "{" not in one_layer
