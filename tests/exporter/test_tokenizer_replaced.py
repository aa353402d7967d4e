"""No moment of an export leaves another model's tokenizer beside a model."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from exported_files import export
from tokenizers_of import change_tokenizer, saved_tokenizer

from gptloop.checkpoint.tokenizer import read_tokenizer
from gptloop.exporter.orphans import remove_orphans

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_a_tokenizer_that_no_model_names_any_more_is_removed(trained, bare, tmp_path):
    path = export(trained.directory, tmp_path / "model.onnx")
    first = saved_tokenizer(path)
    copy = Path(shutil.copy(path, tmp_path / "copy.onnx"))
    others = [
        tmp_path / name for name in ("tokenizer.json", "model.tokenizer.json", f"other-{'0' * 16}.tokenizer.json")
    ]
    for other in others:
        other.write_text("kept")
    export(bare, path)
    assert saved_tokenizer(copy) == first, "which the copy still names"
    assert first.exists()
    copy.unlink()
    export(bare, path)
    assert not first.exists()
    assert all(other.exists() for other in others)


@pytest.mark.parametrize("nth", [0, 1, 2], ids=["tokenizer", "data", ".onnx"])
def test_a_rename_that_fails_leaves_the_old_model_and_nothing_else(trained, bare, tmp_path, monkeypatch, nth):
    export(bare, tmp_path / "model.onnx")
    before, replace, calls = sorted(tmp_path.iterdir()), os.replace, []

    def fail_at_nth(*args):
        calls.append(args)
        if len(calls) > nth:
            raise PermissionError(13, "Permission denied")
        replace(*args)

    monkeypatch.setattr(os, "replace", fail_at_nth)
    with pytest.raises(PermissionError):
        export(trained.directory, tmp_path / "model.onnx")
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == before


# An export that is killed

KILLED_EXPORTS = """
# Exports over copies of a folder, each killed one step later than the one before: when it is about to rename or remove
# the next file of the folder.
import os, shutil, signal, sys
from pathlib import Path
import gptloop.exporter.export as exporter
from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.tensors import stored_tensors
from gptloop.graph.variants.lean import build_lean
from gptloop.checkpoint.tokenizer import read_tokenizer

def kill_at(folder, steps):
    def look(event, args):
        nonlocal steps
        if event in ("os.rename", "os.remove") and str(args[0]).startswith(str(folder)) and os.path.exists(args[0]):
            steps -= 1
            if steps == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(look)

new, start = open_checkpoint(sys.argv[1]), Path(sys.argv[2])
# What writes nothing and takes time is done once, for every child to inherit.
read_tokenizer(new.directory)
built = build_lean(new.config, stored_tensors(new, "fp32"), "fp32", "lean", None)
exporter.build_lean = lambda *_: built
for steps in range(1, 100):
    folder = start.with_name(f"killed-{steps:02}")
    shutil.copytree(start, folder)
    child = os.fork()
    if not child:
        kill_at(folder, steps)
        exporter.export(new, folder / "model.onnx", flavor="lean")
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
"""


def test_a_killed_export_leaves_the_old_model_or_the_new_one_with_its_own_tokenizer(tiny_model, trained, tmp_path):
    for name, seed in (("old", 1), ("new", 2)):
        shutil.copytree(trained.directory, tmp_path / name)
        tiny_model(n_layer=1, vocab_size=384, weights_seed=seed).save_pretrained(tmp_path / name)
    change_tokenizer(tmp_path / "old")
    start = tmp_path / "start"
    start.mkdir()
    export(tmp_path / "old", start / "model.onnx")
    subprocess.run([sys.executable, "-c", KILLED_EXPORTS, tmp_path / "new", start], check=True, timeout=300)

    contents = {name: read_tokenizer(tmp_path / name) for name in ("old", "new")}
    weights = {name: weights_file(export(tmp_path / name, tmp_path / f"{name}.onnx"))[-21:] for name in contents}
    assert len(set(contents.values())) == len(set(weights.values())) == 2
    found, files = [], []
    for folder in sorted(tmp_path.glob("killed-*")):
        path = folder / "model.onnx"
        (owner,) = (name for name, file in weights.items() if weights_file(path).endswith(file))
        assert saved_tokenizer(path).read_bytes() == contents[owner]
        found.append(owner)
        files.append(len(list(folder.glob("model-*.tokenizer.json"))))
        remove_orphans(path)
        assert len(list(folder.iterdir())) == 3, "the next export removes what the kill left"
    assert set(found) == {"old", "new"}
    assert found == sorted(found, reverse=True), "once the new model is there, it stays"
    assert 2 in files, "both tokenizers were there when the kill came between them"


def weights_file(path: Path) -> str:
    """Name of the data file, which tells one model from another."""
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                return entry.value
    raise AssertionError("no external data")
