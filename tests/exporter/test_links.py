"""Which files a model may name: those beside it, through links as a hub cache and a Kubernetes volume have them."""

import os
import re
import shutil
import sys
from pathlib import Path

import onnx
import pytest
from exported_files import tokens

from gptloop import OnnxLoop, export
from gptloop.cli import main
from gptloop.exporter.exported import read_exported
from gptloop.exporter.inspect import inspect
from gptloop.runtime import handed

SECRET = b"s" * 100_000


@pytest.fixture(scope="module", params=["fp32", "int8", "fp16"])
def folder(request, new, tmp_path_factory) -> Path:
    return export(new, tmp_path_factory.mktemp("plain") / "model.onnx", precision=request.param).parent


def hub_cache(folder: Path, root: Path) -> Path:
    """Names are links to blobs, which are named by their content."""
    blobs, snapshot = root / "blobs", root / "snapshots" / "0123abcd"
    for made in (blobs, snapshot):
        made.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / f"{number:064}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:064}")
    return snapshot


def kubernetes_volume(folder: Path, root: Path) -> Path:
    """Names are links into ..data, a link to the folder of a version, which is replaced as a whole."""
    shutil.copytree(folder, root / "..2024_05_01")
    (root / "..data").symlink_to("..2024_05_01")
    for file in folder.iterdir():
        (root / file.name).symlink_to(f"..data/{file.name}")
    return root


def linked_folder(folder: Path, root: Path) -> Path:
    root.mkdir()
    (root / "link").symlink_to(folder)
    return root / "link"


def other_name(folder: Path, root: Path) -> Path:
    """The data is a link to a file of another name beside it."""
    shutil.copytree(folder, root)
    (data,) = root.glob("*.data")
    data.rename(root / "weights.bin")
    data.symlink_to("weights.bin")
    return root


def hard_links(folder: Path, root: Path) -> Path:
    shutil.copytree(folder, root, copy_function=os.link)
    return root


@pytest.mark.parametrize("place", [hub_cache, kubernetes_volume, linked_folder, other_name, hard_links])
def test_a_model_behind_links_gives_the_tokens_of_the_plain_one(folder, tmp_path, place):
    path = place(folder, tmp_path / "linked") / "model.onnx"
    assert tokens(path) == tokens(folder / "model.onnx")
    assert inspect(path, verify=True) == inspect(folder / "model.onnx")
    if place is hard_links:
        return  # which onnx_ir refuses to read
    embeddings = [read_exported(file).tensors["wte.weight"].tobytes() for file in (path, folder / "model.onnx")]
    assert embeddings[0] == embeddings[1]


def test_hard_linked_data_beyond_what_a_message_holds_is_refused_with_the_way_out(new, tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()
    export(new, tmp_path / "plain" / "model.onnx")
    path = hard_links(tmp_path / "plain", tmp_path / "linked") / "model.onnx"
    monkeypatch.setattr(handed, "PROTOBUF_MAX_BYTES", 100_000)
    with pytest.raises(ValueError, match=re.escape(f"{path} has a data file with several hard links") + ".*copy it"):
        OnnxLoop(path, device="cpu")


# What is refused


def rename_data(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for graph in [model.graph, *(a.g for node in model.graph.node for a in node.attribute if a.HasField("g"))]:
        for tensor in graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
    onnx.save(model, path)


def rename_tokenizer(path: Path, name: str) -> None:
    model = onnx.load(path, load_external_data=False)
    entry = next(entry for entry in model.metadata_props if entry.key == "gptloop_tokenizer")
    entry.value = name
    onnx.save(model, path)


@pytest.fixture
def model(trained, tmp_path) -> Path:
    """A copy of a model, and a file outside its folder that is none of its business."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    (tmp_path / "folder").mkdir()
    return Path(shutil.copytree(trained.path.parent, tmp_path / "model")) / trained.path.name


NOT_PLAIN = [
    "../secret.txt",
    "/etc/passwd",
    "{root}/secret.txt",
    "sub/x.data",
    "./x.data",
    "",
    ".",
    "..",
    "a\\b",
    "a\0b",
]
NOT_PLAIN += ["*/_ORT_MEM_ADDR_/*", "x/" * 50_000]
LEADING_AWAY = {
    "out": lambda link: link.symlink_to("../secret.txt"),
    "absolute": lambda link: link.symlink_to(link.parent.parent / "secret.txt"),
    "twice": lambda link: ((link.parent / "x").symlink_to("../secret.txt"), link.symlink_to("x")),
    "a folder between": lambda link: ((link.parent / "x").symlink_to(".."), link.symlink_to("x/secret.txt")),
    "a folder": lambda link: link.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda link: link.symlink_to("/dev/zero"),
    "a circle": lambda link: link.symlink_to(link.name),
}


def assert_refused_unopened(path: Path, capsys, words: str) -> None:
    """By all readers in one line, before anything but the .onnx file is opened."""
    opened = []
    collecting = True

    def note(event, arguments):
        if collecting and event == "open" and isinstance(arguments[0], str | Path):
            opened.append(Path(arguments[0]).name)

    sys.addaudithook(note)
    messages = set()
    for read in (inspect, lambda path: OnnxLoop(path, device="cpu")):
        with pytest.raises(ValueError, match=words) as caught:
            read(path)
        messages.add(str(caught.value))
    collecting = False
    assert not {"secret.txt", "passwd", "zero", "x"} & set(opened)
    (message,) = messages
    assert message.startswith(f"{path} is damaged: ")
    assert len(message) < len(str(path)) + 300
    for command in (["inspect", str(path)], ["generate", str(path), "--ids", "1"], ["generate", str(path), "text"]):
        assert main(command) == 2
        assert capsys.readouterr().err == f"gptloop: error: {message}\n"


@pytest.mark.parametrize("rename", [rename_data, rename_tokenizer])
@pytest.mark.parametrize("location", NOT_PLAIN, ids=lambda location: ascii(location[:20]))
def test_a_name_that_is_not_plain_is_refused(model, capsys, rename, location):
    rename(model, location.format(root=model.parent.parent))
    assert_refused_unopened(model, capsys, "must be the plain name of a file in the model's folder")


@pytest.mark.parametrize("rename", [rename_data, rename_tokenizer])
@pytest.mark.parametrize("kind", LEADING_AWAY)
def test_a_name_that_leads_away_is_refused(model, capsys, rename, kind):
    rename(model, "link")
    LEADING_AWAY[kind](model.parent / "link")
    assert_refused_unopened(model, capsys, "a link out of the model's folder|no regular file|cannot be found")


def test_a_tensor_of_a_node_may_not_stand_outside_the_file(model, capsys):
    proto = onnx.load(model, load_external_data=False)
    node = proto.graph.node.add(op_type="Constant", output=["x"], name="astray")
    tensor = onnx.TensorProto(dims=[4], data_type=onnx.TensorProto.UINT8, data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret.txt")
    node.attribute.append(onnx.helper.make_attribute("value", tensor))
    onnx.save(proto, model)
    assert_refused_unopened(model, capsys, "the tensor of node 'astray' stands outside of the file")
