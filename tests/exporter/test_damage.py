"""A damaged model file gets one line that names the file and the entry: the same from all readers, and no traceback."""

import json
import os
import random
import re
import shutil
from pathlib import Path

import onnx
import pytest

from gptloop import OnnxLoop
from gptloop.cli import main
from gptloop.exporter.inspect import inspect

FLIPS = int(os.environ.get("GPTLOOP_FLIPS", "40"))  # more of them: GPTLOOP_FLIPS=300 pytest tests/exporter


@pytest.fixture
def model(tiny, tmp_path) -> Path:
    return Path(shutil.copytree(tiny.path.parent, tmp_path / "copy")) / tiny.path.name


def edited(path: Path, edit) -> Path:
    proto = onnx.load(path, load_external_data=False)
    edit(proto)
    onnx.save(proto, path)
    return path


def answers(path: Path, capsys) -> list[str]:
    """What inspect, OnnxLoop and both commands say of a file: a message, or nothing where it is fine."""
    found = []
    for read in (inspect, lambda path: OnnxLoop(path, device="cpu", threads=1)):
        try:
            read(path)
            found.append("")
        except (ValueError, OSError) as error:
            found.append(str(error))
    for command in (["inspect", str(path)], ["generate", str(path), "--ids", "1,2", "--max-new-tokens", "2"]):
        status = main([*command, *(["--seed", "1"] if command[0] == "generate" else [])])
        err = capsys.readouterr().err
        assert status == (2 if err else 0)
        assert err == "" or re.fullmatch(r"gptloop: error: [^\n]*\n", err)
        found.append(err.removeprefix("gptloop: error: ").rstrip("\n"))
    return found


def assert_refused(path: Path, capsys, words: str) -> None:
    first, *others = answers(path, capsys)
    assert others == [first] * 3
    assert words in first
    assert first.startswith(f"{path} is ")
    assert len(first) < len(str(path)) + 400, "however long the value"


def embedding(proto: onnx.ModelProto) -> onnx.TensorProto:
    return next(tensor for tensor in proto.graph.initializer if tensor.name == "wte.weight")


def entry(key: str, value: str | None):
    """Set, or remove, an entry of the embedding's external data."""

    def edit(proto: onnx.ModelProto) -> None:
        entries = embedding(proto).external_data
        kept = {item.key: item.value for item in entries} | {key: value}
        del entries[:]
        for name, text in kept.items():
            if text is not None:
                entries.add(key=name, value=text)

    return edit


ENTRIES = {
    "no offset": (entry("offset", None), "tensor 'wte.weight': its external data has 'location, length', not once"),
    "no length": (entry("length", None), "not once each location, offset, length"),
    "no location": (entry("location", None), "not once each location, offset, length"),
    "a prepacked blob": (entry("prepacked_0", "x|0|8|y"), "not once each location, offset, length"),
    "a negative offset": (entry("offset", "-8"), "tensor 'wte.weight': its external data has offset '-8'"),
    "an offset that is none": (entry("offset", "1e3"), "has offset '1e3', which must be 0 to 2^63 - 1"),
    "an offset of other digits": (entry("offset", "²"), "has offset"),
    "a huge offset": (entry("offset", "9" * 100_000), "has offset '999"),
    "an offset past the end": (entry("offset", str(2**62)), "is truncated"),
    "another length": (entry("length", "8"), "has length 8, its shape and type need 12416"),
    "another type": (lambda proto: setattr(embedding(proto), "data_type", 10), "has length 12416, its shape and type"),
    "no type": (lambda proto: setattr(embedding(proto), "data_type", 0), "data_type 0 is none that gptloop writes"),
    "a type of text": (lambda proto: setattr(embedding(proto), "data_type", 8), "data_type 8 is none that"),
    "an unknown type": (lambda proto: setattr(embedding(proto), "data_type", 99), "'wte.weight'"),
    "a huge shape": (lambda proto: embedding(proto).dims.extend([10**9, 10**9]), "its shape and type need"),
    "a negative shape": (lambda proto: embedding(proto).dims.append(-1), "has a negative dimension"),
    "a long name": (lambda proto: setattr(embedding(proto), "name", "x" * 100_000), "vocab_size"),
    "a name that is no text": (
        lambda proto: embedding(proto).MergeFromString(b"B\x02\xff\xff"),
        "name that is no text",
    ),
    "a tensor twice": (lambda proto: proto.graph.initializer.add().CopyFrom(embedding(proto)), "has the same name"),
    "functions": (lambda proto: proto.functions.add(name="f"), "holds functions"),
    "few bytes": (
        lambda proto: proto.graph.initializer.add(name="x", data_type=1, dims=[2**40], raw_data=b"1234"),
        "tensor 'x': it holds 4 bytes, its shape and type need 4398046511104",
    ),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_a_tensor_that_is_described_wrongly_is_named_with_what_is_wrong(model, capsys, case):
    edit, words = ENTRIES[case]
    if words == "is truncated":
        (data,) = model.parent.glob("*.data")
        found = answers(edited(model, edit), capsys)
        assert found == [f"{data} is truncated: {data.stat().st_size} bytes, {model} needs {2**62 + 12416}"] * 4
        return
    assert_refused(edited(model, edit), capsys, words)


def metadata(key: str, value: str | None):
    def edit(proto: onnx.ModelProto) -> None:
        entries = {item.key: item.value for item in proto.metadata_props} | {key: value}
        onnx.helper.set_model_props(proto, {name: text for name, text in entries.items() if text is not None})

    return edit


def config(**changes):
    def edit(proto: onnx.ModelProto) -> None:
        now = next(json.loads(item.value) for item in proto.metadata_props if item.key == "gptloop_config")
        metadata("gptloop_config", json.dumps(now | changes))(proto)

    return edit


METADATA = {
    "no JSON": (metadata("gptloop_config", "{"), "gptloop_config is no JSON: '{'"),
    "a deep one": (metadata("gptloop_config", "[" * 100_000), "gptloop_config is no JSON: '[[["),
    "a list": (metadata("gptloop_config", "[]"), "gptloop_config is [], must be a JSON object"),
    "a text as a size": (config(n_positions="64"), "gptloop_config has n_positions '64', must be an integer"),
    "a float": (config(vocab_size=97.0), "vocab_size 97.0, must be an integer of at least 1"),
    "a truth": (config(n_head=True), "n_head True, must be an integer of at least 1"),
    "nothing": (config(n_layer=None), "n_layer None, must be an integer of at least 1"),
    "no layers": (config(n_layer=0), "n_layer 0, must be an integer of at least 1"),
    "more layers": (config(n_layer=10**6), "n_layer 1000000, the graph has 2"),
    "more positions": (config(n_positions=10**9), "n_positions and n_embd [1000000000, 32], but tensor wpe.weight is"),
    "another vocabulary": (config(vocab_size=96), "vocab_size and n_embd [96, 32], but tensor wte.weight is [97, 32]"),
    "heads that do not divide": (config(n_head=5), "n_head 5, no divisor of n_embd 32"),
    "an end that is no id": (config(eos_token_id="x" * 100_000), "eos_token_id 'xxx"),
    "an unknown function": (config(activation_function="exec"), "activation_function 'exec', must be one of gelu"),
    "an unknown precision": (metadata("gptloop_precision", "fp8"), "gptloop_precision is 'fp8', must be one of fp32"),
    "an unknown flavor": (metadata("gptloop_flavor", "mint"), "gptloop_flavor is 'mint', must be one of standard"),
    "another flavor": (metadata("gptloop_flavor", "lean"), "its graph is not what was exported"),
    "unrolled how far": (metadata("gptloop_flavor", "unrolled"), "but has no gptloop_max_new_tokens"),
    "no number": (metadata("gptloop_max_new_tokens", "many"), "gptloop_max_new_tokens is 'many', must be an integer"),
    "no opset": (metadata("gptloop_opset", "new"), "gptloop_opset is 'new', must be a number of an opset"),
    "no hash": (metadata("gptloop_data_sha256", "?"), "gptloop_data_sha256 is '?', must be 64 hexadecimal digits"),
    "an entry twice": (lambda proto: proto.metadata_props.add(key="gptloop_source", value="x"), "metadata twice"),
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_of_a_wrong_type_or_size_are_named_with_the_bound(model, capsys, case):
    edit, words = METADATA[case]
    assert_refused(edited(model, edit), capsys, words)


def test_a_file_too_large_for_a_message_is_not_read(tmp_path, capsys):
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(2**40)
    assert_refused(tmp_path / "huge.onnx", capsys, f"is no ONNX file: {2**40} bytes, protobuf ends at 2147483647")


@pytest.mark.parametrize("recorded", [True, False], ids=["as exported", "of before hashes were recorded"])
def test_flipped_bits_and_truncations_end_in_one_line_or_in_the_same_tokens(model, capsys, recorded):
    if not recorded:
        edited(model, metadata("gptloop_graph_sha256", None))
    content, generator = model.read_bytes(), random.Random(0)
    expected = two_tokens(model)
    for _ in range(FLIPS if recorded else FLIPS // 4):
        damaged = bytearray(content)
        place = generator.randrange(len(content))
        damaged[place] ^= 1 << generator.randrange(8)
        model.write_bytes(damaged if generator.random() < 0.8 else content[:place])
        first, *others = answers(model, capsys)
        assert all(str(model.parent) in answer for answer in (first, *others) if answer), place
        if recorded:
            assert others == [first] * 3, place
            if not first:
                assert two_tokens(model) == expected, place


def two_tokens(path: Path) -> list[list[int]]:
    return OnnxLoop(path, device="cpu", threads=1).generate([[1, 2]], max_new_tokens=2).tolist()
