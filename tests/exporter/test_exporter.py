"""Writing the file: what it holds and weighs, and what is refused."""

import json
import re
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported_files import contents, parameter_bytes, tokens
from onnx import numpy_helper

from gptloop import export

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXTERNAL_FROM_BYTES = 1024  # smaller tensors stay in the .onnx file

# What is in the files


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}, {"n_inner": 40}], ids=str)
def test_the_data_file_holds_each_parameter_once(open_tiny, changes):
    """Exactly the bytes of the parameters, less those too small to be worth a place outside the .onnx file."""
    tiny = open_tiny(**changes)
    (data,) = tiny.path.parent.glob("*.data")
    sizes = parameter_bytes(tiny.model)
    assert data.stat().st_size == sum(size for size in sizes if size >= EXTERNAL_FROM_BYTES)


def test_a_tied_head_is_not_stored_twice(tiny, tmp_path):
    embedding = tiny.model.transformer.wte.weight.detach().numpy().tobytes()
    single = export(tiny.model, tmp_path / "single.onnx", single_file=True)
    for folder in (tiny.path.parent, tmp_path):
        assert sum(content.count(embedding) for content in contents(folder).values()) == 1
    assert single.stat().st_size > sum(parameter_bytes(tiny.model))


def test_the_onnx_file_itself_stays_small(open_tiny):
    """It grows by the layer, not by the width: the widest tensor in it is a constant of less than 1 KB."""
    narrow, wide = open_tiny(n_layer=1), open_tiny(n_layer=1, n_embd=256)
    # What grows: biases and layer norms of 256 numbers are 1024 bytes and move out; offsets get more digits.
    assert abs(wide.path.stat().st_size - narrow.path.stat().st_size) < 4096


def test_stored_weights_are_the_models_own(tiny):
    """All but the attention's first product, whose query columns carry the factor of the scores."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tiny.path).graph.initializer}
    for name, parameter in tiny.model.named_parameters():
        found, expected = stored[name.removeprefix("transformer.")], parameter.detach().numpy()
        if "attn.c_attn" in name:
            np.testing.assert_array_equal(found[..., 32:], expected[..., 32:])
            np.testing.assert_allclose(found[..., :32], expected[..., :32] / np.sqrt(8), rtol=2**-22)
        else:
            np.testing.assert_array_equal(found, expected)


def test_metadata_says_what_the_file_is(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    for source, name in ((tiny.model, "GPT2LMHeadModel"), (tmp_path, str(tmp_path))):
        path = export(source, tmp_path / "model.onnx")
        found = {entry.key: entry.value for entry in onnx.load(path, load_external_data=False).metadata_props}
        config = json.loads(found.pop("gptloop_config"))
        assert all(
            re.fullmatch("[0-9a-f]{64}", found.pop(key)) for key in ("gptloop_data_sha256", "gptloop_graph_sha256")
        )
        assert found == {
            "gptloop_version": metadata.version("gptloop"),
            "gptloop_source": name,
            "gptloop_weights": "pretrained",
            "gptloop_precision": "fp32",
            "gptloop_opset": "21",
            "gptloop_flavor": "standard",
        }
        expected = tiny.model.config.to_dict()
        for field in ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size", "activation_function"):
            assert config[field] == expected[field]


def test_two_exports_of_one_checkpoint_are_byte_for_byte_equal(new, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        export(new, tmp_path / folder / "model.onnx")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_the_data_files_name_is_the_models_and_a_hash_of_its_content(old, new, tmp_path):
    for model in (old, new):
        export(model, tmp_path / f"{id(model)}.onnx")
    stems, hashes = zip(*(file.stem.split("-") for file in tmp_path.glob("*.data")), strict=True)
    assert set(stems) == {str(id(old)), str(id(new))}
    assert len(set(hashes)) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in hashes)


def test_the_files_have_the_permissions_of_any_other_new_file(new, tmp_path):
    (tmp_path / "plain").touch()
    export(new, tmp_path / "model.onnx")
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_a_model_works_after_its_folder_was_moved(new, new_tokens, tmp_path):
    (tmp_path / "here").mkdir()
    export(new, tmp_path / "here" / "model.onnx")
    (tmp_path / "here").rename(tmp_path / "there")
    assert tokens(tmp_path / "there" / "model.onnx") == new_tokens


def test_a_relative_path_is_relative_to_the_working_directory(new, new_tokens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export(new, "model.onnx") == Path("model.onnx")
    assert tokens(Path("model.onnx")) == new_tokens
    assert tokens(tmp_path / "model.onnx") == new_tokens


def test_progress_counts_every_tensor_of_the_data_file(new, tmp_path):
    seen = []
    export(new, tmp_path / "model.onnx", progress=lambda done, total: seen.append((done, total)))
    total = sum(size >= EXTERNAL_FROM_BYTES for size in parameter_bytes(new))
    assert seen == [(done, total) for done in range(1, total + 1)]


# A single file


def test_a_single_file_needs_no_other_and_gives_the_same_tokens(new, new_tokens, tmp_path):
    path = export(new, tmp_path / "model.onnx", single_file=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert tokens(path) == new_tokens


def test_a_single_file_above_protobufs_limit_is_refused_before_anything_is_written(new, tmp_path, monkeypatch):
    weights = sum(parameter_bytes(new))
    monkeypatch.setattr("gptloop.exporter.export.PROTOBUF_MAX_BYTES", weights - 1)
    with pytest.raises(ValueError, match=rf"weights of \d+ bytes do not fit a single file.* {weights - 1}"):
        export(new, tmp_path / "model.onnx", single_file=True)
    assert not list(tmp_path.iterdir())
    export(new, tmp_path / "model.onnx")


# What is refused


def test_an_unknown_precision_is_refused_with_the_known_ones(new, tmp_path):
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, bf16, int8, got 'fp8'"):
        export(new, tmp_path / "model.onnx", precision="fp8")


@pytest.mark.parametrize("argument", ["precision", "flavor"])
def test_a_long_value_is_not_repeated_in_full(new, tmp_path, argument):
    with pytest.raises(ValueError, match=f"{argument} must be one of") as error:
        export(new, tmp_path / "model.onnx", **{argument: "x" * 100_000})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["model", "model.pt", "model.onnx.data", ".onnx"])
def test_a_name_that_does_not_end_in_onnx_is_refused(new, tmp_path, name):
    with pytest.raises(ValueError, match=re.escape(f"must end in .onnx, got '{name}'")):
        export(new, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist_is_named(new, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"no such folder: {tmp_path / 'nowhere'}")):
        export(new, tmp_path / "nowhere" / "model.onnx")


def test_a_path_that_is_a_folder_is_refused_and_nothing_is_left(new, tmp_path):
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises((ValueError, OSError), match=re.escape(str(tmp_path / "model.onnx"))):
        export(new, tmp_path / "model.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_the_path_is_checked_before_the_model_is_read(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        export(tmp_path / "no such model", tmp_path / "model.pt")
