"""A byte that is not what was exported is found, by all readers, wherever it stands and whatever files are called."""

import re
import shutil
from pathlib import Path

import onnx
import pytest

from gptloop import OnnxLoop, export
from gptloop.cli import main
from gptloop.exporter.inspect import inspect

READERS = [lambda path: inspect(path, verify=True), lambda path: OnnxLoop(path, device="cpu", verify=True)]
every_reader = pytest.mark.parametrize("read", READERS, ids=["inspect", "OnnxLoop"])


@pytest.fixture
def model(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained.path.parent, tmp_path / "copy")) / trained.path.name


def only(path: Path, pattern: str) -> Path:
    (found,) = path.parent.glob(pattern)
    return found


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def change_metadata(path: Path, change) -> None:
    proto = onnx.load(path, load_external_data=False)
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    change(entries)
    onnx.helper.set_model_props(proto, entries)
    onnx.save(proto, path)


def as_exported_before(entries: dict[str, str]) -> None:
    for key in [key for key in entries if key.endswith("_sha256")]:
        del entries[key]


@every_reader
@pytest.mark.parametrize("pattern", ["*.data", "*.tokenizer.json"])
def test_a_flipped_bit_of_a_part_is_found_where_it_is_looked_for(model, read, pattern):
    part = only(model, pattern)
    read(model)
    for place in (0, part.stat().st_size // 2, -1):
        flip(part, place)
        inspect(model)  # which reads no part unless asked to
        with pytest.raises(ValueError, match=re.escape(f"{part} is damaged: the SHA-256 of its content")):
            read(model)
        flip(part, place)
    read(model)


@every_reader
def test_a_flipped_bit_of_a_single_files_weights_is_found(tiny, tmp_path, read):
    path = export(tiny.model, tmp_path / "model.onnx", single_file=True)
    read(path)
    embedding = tiny.model.transformer.wte.weight.detach().numpy().tobytes()
    flip(path, path.read_bytes().index(embedding) + 100)
    with pytest.raises(ValueError, match=re.escape(f"{path} is damaged: the SHA-256 of its content")):
        read(path)


@every_reader
def test_a_flipped_bit_of_the_graph_is_found_without_being_looked_for(model, read):
    flip(model, model.read_bytes().index(b"LayerNormalization"))
    for reader in (read, inspect):
        with pytest.raises(ValueError, match=re.escape(f"{model} is damaged: its graph is not what was exported")):
            reader(model)


@every_reader
def test_files_may_be_renamed(model, read):
    content = model.read_bytes()
    for part, name in ((only(model, "*.data"), "a.bin"), (only(model, "*.tokenizer.json"), "b.bin")):
        proto = onnx.ModelProto.FromString(content)
        rename(proto, part.name, name)
        part.rename(model.with_name(name))
        content = proto.SerializeToString()
        model.write_bytes(content)
    read(model)
    flip(model.with_name("a.bin"), 0)
    with pytest.raises(ValueError, match=re.escape(f"{model.with_name('a.bin')} is damaged")):
        read(model)


def rename(message, old: str, new: str) -> None:
    """Wherever a name stands in a message."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        if field.message_type:
            for part in values:
                rename(part, old, new)
        elif value == old:
            setattr(message, field.name, new)


@every_reader
def test_a_file_of_before_hashes_were_recorded_has_them_in_its_parts_names(model, read):
    change_metadata(model, as_exported_before)
    read(model)
    data = only(model, "*.data")
    flip(data, 0)
    with pytest.raises(ValueError, match=re.escape(f"{data} is damaged")):
        read(model)


@every_reader
def test_what_nothing_is_known_of_is_not_called_verified(tiny, tmp_path, read):
    path = export(tiny.model, tmp_path / "model.onnx", single_file=True)
    change_metadata(path, as_exported_before)
    inspect(path)
    with pytest.raises(ValueError, match=re.escape(f"{path} cannot be verified")):
        read(path)


@every_reader
@pytest.mark.parametrize("more", [-1, 1])
def test_a_wrong_length_is_always_found(model, read, more):
    data = only(model, "*.data")
    content = data.read_bytes()
    data.write_bytes(content[:-1] if more < 0 else content + b"\0")
    words = f"{data} is {'truncated' if more < 0 else 'too long'}: {len(content) + more} bytes, {model} needs"
    for reader in (read, inspect, lambda path: OnnxLoop(path, device="cpu")):
        with pytest.raises(ValueError, match=re.escape(words)):
            reader(model)


def test_the_command_line_says_that_it_was_verified_or_what_is_wrong(model, capsys):
    assert main(["inspect", "--verify", str(model)]) == 0
    assert capsys.readouterr().out.endswith("\ncontent: as it was exported\n")
    flip(only(model, "*.data"), 0)
    assert main(["inspect", str(model)]) == 0
    assert "as it was exported" not in capsys.readouterr().out
    assert main(["inspect", "--verify", str(model)]) == 2
    assert re.fullmatch(r"gptloop: error: .*\.data is damaged: .*\n", capsys.readouterr().err)
