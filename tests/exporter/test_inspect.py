"""What inspect counts, against counts taken another way."""

import shutil

import onnx
import pytest

from gptloop import export
from gptloop.exporter.inspect import inspect
from gptloop.exporter.structure_text import render


def all_nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from all_nodes(attribute.g)


def test_every_node_is_counted_once_outside_the_loop_or_in_it(tiny, structure):
    operators = [node.op_type for node in all_nodes(onnx.load(tiny.path, load_external_data=False).graph)]
    counted = structure.graph_nodes + structure.block_nodes + structure.body_nodes
    assert counted.total() == len(operators)
    assert {(domain, op) for domain, op in counted} == {("ai.onnx", op) for op in operators}
    assert counted["ai.onnx", "Gemm"] == operators.count("Gemm") == 2 * (4 * 2 + 1)
    # Beside the Loop over blocks, one over the chunks of a long prompt, in each layer but the last.
    assert structure.graph_nodes["ai.onnx", "Loop"] == 1 + 1
    assert structure.block_nodes["ai.onnx", "Loop"] == 1
    # As many where the first token is drawn, one in each layer of the prefill, one around all of that, two for what is
    # there instead in a call that goes on, one around the Loop and one around the uniform numbers.
    assert structure.graph_nodes["ai.onnx", "If"] == structure.body_nodes["ai.onnx", "If"] + 2 + 1 + 2 + 1 + 1


@pytest.mark.parametrize("n_layer", [1, 3])
def test_nodes_per_layer_do_not_depend_on_the_number_of_layers(open_tiny, structure, n_layer):
    other = inspect(open_tiny(n_layer=n_layer).path)
    assert structure.nodes_per_layer == other.nodes_per_layer
    difference = other.body_nodes.total() - structure.body_nodes.total()
    assert difference == (n_layer - 2) * structure.nodes_per_layer


def test_nodes_per_layer_count_the_block_whole(structure):
    """Two layer norms, four products, two residuals, and the attention's own."""
    assert structure.nodes_per_layer == int(structure.nodes_per_layer)
    assert 15 < structure.nodes_per_layer < structure.body_nodes.total() / 2
    per_layer = {"Gemm": 4, "LayerNormalization": 2, "MatMul": 6, "Softmax": 1, "Gelu": 1}
    in_body = {op: count for (_, op), count in structure.body_nodes.items()}
    # Beside the blocks: the LM head with its norm, and for each way to draw (among k or all) from each kind of logits
    # (plain or processed) a softmax of all, of what is left, and of what may reach top_p.
    assert {op: in_body[op] - 2 * count for op, count in per_layer.items()} == {
        "Gemm": 1,
        "LayerNormalization": 1,
        "MatMul": 0,
        "Softmax": 12,
        "Gelu": 0,
    }


def test_no_weight_stands_in_the_body(structure):
    assert structure.body_weights == ()


def test_a_prefill_in_one_piece_has_no_loop_and_one_in_chunks_has_its_body(tiny, structure):
    graph = onnx.load(tiny.path, load_external_data=False).graph
    in_prefill = [node for node in all_nodes(graph) if node.name.startswith("from_prompts/prefill/")]
    whole, long = (sum(f"/{part}/" in node.name for node in in_prefill) for part in ("whole", "long"))
    assert 0 < whole < long
    assert structure.prefill_nodes == len(in_prefill) - long
    assert structure.prefill_nodes_in_chunks == len(in_prefill) - whole
    counts = (
        f"of a prefill: {len(in_prefill) - long} where prompts attend in one piece, {len(in_prefill) - whole} where"
    )
    assert counts in render(structure)


def step_body(graph):
    """The body of the Loop in the Loop, which stands in a branch of an If."""
    for _ in range(2):
        graph = next(
            node.attribute[0].g
            for node in all_nodes(graph)
            if node.op_type == "Loop" and node.attribute[0].g.name != "attend_chunk"
        )
    return graph


def test_the_block_names_the_weights_again_and_a_single_file_does_not(tiny, structure, tmp_path):
    matrices = [name for name, p in tiny.model.named_parameters() if p.ndim == 2]
    assert {f"steps/{name.removeprefix('transformer.')}" for name in matrices} <= set(structure.block_weights)
    assert inspect(export(tiny.model, tmp_path / "single.onnx", single_file=True)).block_weights == ()


def in_the_body(body):
    return body


def in_a_branch_of_the_body(body):
    return next(node for node in body.node if node.op_type == "If").attribute[0].g


@pytest.mark.parametrize("place", [in_the_body, in_a_branch_of_the_body])
def test_a_weight_that_does_stand_in_the_body_is_named(tiny, tmp_path, place):
    path = shutil.copytree(tiny.path.parent, tmp_path / "copy") / tiny.path.name
    model = onnx.load(path, load_external_data=False)
    weight = onnx.helper.make_tensor("astray", onnx.TensorProto.FLOAT, [2], [0.0, 1.0])
    place(step_body(model.graph)).initializer.append(weight)
    recorded = next(entry for entry in model.metadata_props if entry.key == "gptloop_graph_sha256")
    model.metadata_props.remove(recorded)  # as whoever changes a graph on purpose does
    onnx.save(model, path)
    assert inspect(path).body_weights == ("astray",)


def test_the_loop_carries_the_rows_tokens_and_ends_and_each_layers_generated_k_and_v(structure):
    first, *kv = structure.carried.items()
    assert first == ("went_on", "bool []")
    assert kv[:3] == [("token_past", "int64 [S]"), ("generated_past", "int64 [S, ?]"), ("ended_past", "bool [S]")]
    assert [kind for _, kind in kv[3:]] == ["float [B, 4, R, ?, 8]"] * 2 * 2


def test_what_a_row_carries_grows_by_a_token_id_and_each_layers_k_and_v(structure):
    id_bytes, layers, k_and_v, heads, head_dim, float_bytes = 8, 2, 2, 4, 8, 4
    assert structure.carried_bytes_per_step == id_bytes + layers * k_and_v * heads * head_dim * float_bytes
    assert f"{structure.carried_bytes_per_step} bytes more of each row with each step" in render(structure)


def test_every_node_of_the_body_is_in_a_layer_or_outside_of_them(structure):
    assert structure.nodes_outside_layers == structure.body_nodes.total() - 2 * structure.nodes_per_layer


def test_metadata_bytes_are_what_the_file_grew_by(tiny, structure):
    model = onnx.load(tiny.path, load_external_data=False)
    whole = model.ByteSize()
    del model.metadata_props[:]
    assert structure.metadata_bytes == whole - model.ByteSize() > 0


def test_the_tokenizers_file_is_listed_and_missed(trained, tmp_path):
    path = shutil.copytree(trained.path.parent, tmp_path / "copy") / trained.path.name
    name = inspect(path).metadata["gptloop_tokenizer"]
    size = (path.parent / name).stat().st_size
    assert inspect(path).file_bytes[name] == size
    assert f"{size:,} bytes  {name}" in render(inspect(path))
    (path.parent / name).unlink()
    assert name not in inspect(path).file_bytes
    assert f"not there  {name}" in render(inspect(path))


def caches(name, key, value):
    return {f"{name}.{layer}.{kind}": shape for layer in range(2) for kind, shape in (("key", key), ("value", value))}


def test_inputs_are_the_files(structure):
    state = [
        ("past_sizes", "int64 [3]"),
        ("past_sequences", "int64 [B_past, R_past, G]"),
        ("past_ended", "bool [B_past, R_past]"),
        ("return_state", "bool [1]"),
        ("uniforms", "float [steps, rows, 1]"),
        *caches("past_prompt", "float [B_past, 4, 8, L]", "float [B_past, 4, L, 8]").items(),
        *caches("past_rows", *["float [B_past, 4, R_past, E, 8]"] * 2).items(),
        *caches("past_block", *["float [B_past, 4, R_past, C, 8]"] * 2).items(),
    ]
    assert list(structure.inputs.items()) == [
        ("input_ids", "int64 [B, P]"),
        ("attention_mask", "int64 [B, P]"),
        ("max_new_tokens", "int64 [B_max_new_tokens]"),
        ("min_new_tokens", "int64 [B_min_new_tokens]"),
        ("num_return_sequences", "int64 [B_num_return_sequences]"),
        ("first_candidate", "int64 [B_first_candidate]"),
        ("temperature", "float [B_temperature]"),
        ("top_k", "int64 [B_top_k]"),
        ("top_p", "float [B_top_p]"),
        ("min_p", "float [B_min_p]"),
        ("repetition_penalty", "float [B_repetition_penalty]"),
        ("no_repeat_ngram_size", "int64 [B_no_repeat_ngram_size]"),
        ("sequence_bias_ids", "int64 [B_sequence_bias_ids, Q_bias, W_bias]"),
        ("sequence_bias", "float [B_sequence_bias, Q_bias]"),
        ("eos_token_ids", "int64 [B_eos_token_ids, M]"),
        ("stop_sequences", "int64 [B_stop_sequences, Q_stop, W_stop]"),
        ("pad_token_id", "int64 [B_pad_token_id]"),
        ("return_logprobs", "bool [B_return_logprobs]"),
        ("seed", "int64 [B]"),
        *state,
    ]
    assert structure.optional == {name for name, _ in state}


def test_outputs_and_opsets_are_the_files(structure):
    assert structure.outputs == {
        "sequences": "int64 [B, R, N]",
        "logprobs": "float [B, R, N]",
        "raw_logprobs": "float [B, R, N]",
        "ended": "bool [B, R]",
        "refused": "int64 [B]",
        **caches("present_prompt", "float [B, 4, 8, P_even]", "float [B, 4, P_even, 8]"),
        **caches("present_rows", *["float [B, 4, R, E_present, 8]"] * 2),
        **caches("present_block", *["float [B, 4, R, C_present, 8]"] * 2),
    }
    assert structure.opsets == {"ai.onnx": 21}


def test_sizes_are_those_of_the_disk(tiny, structure):
    assert structure.file_bytes == {file.name: file.stat().st_size for file in tiny.path.parent.iterdir()}
    parameters = sum(4 * parameter.numel() for parameter in tiny.model.parameters())
    # Beside the parameters: shapes, axes and the like, a few bytes each.
    assert parameters <= structure.weight_bytes < parameters + 1024


def test_a_single_file_weighs_the_same(tiny, structure, tmp_path):
    single = inspect(export(tiny.model, tmp_path / "single.onnx", single_file=True))
    assert single.weight_bytes == structure.weight_bytes, "but not twice"
    assert (single.graph_nodes, single.body_nodes) == (structure.graph_nodes, structure.body_nodes)
    assert list(single.file_bytes) == ["single.onnx"]


def test_defaults_of_inputs_are_no_weights(tiny, structure):
    graph = onnx.load(tiny.path, load_external_data=False).graph
    assert structure.optional <= {tensor.name for tensor in graph.initializer}
    defaults = sum(len(tensor.raw_data) for tensor in graph.initializer if tensor.name in structure.optional)
    past_sizes, past_sequences, flags, uniforms, caches = 3 * 8, 8, 2, 4, 3 * 2 * 2 * (4 * 8 * 4)
    found = past_sizes + past_sequences + flags + uniforms + caches
    assert defaults == found, "one of each size that a call decides"
