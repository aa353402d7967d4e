"""Exports at the same moment: they take turns, and whichever was last, its model is whole."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from exported_files import contents, export, tokens

from gptloop import OnnxLoop
from gptloop.exporter.inspect import inspect
from gptloop.exporter.lock import LOCK_FILE, alone_in

PAIRS = int(os.environ.get("GPTLOOP_PAIRS", "4"))  # more of them: GPTLOOP_PAIRS=60 pytest tests/exporter

PAIR = """
# Pairs of processes that export two models to one path at the same moment, each pair into a folder of its own.
import os, sys
from pathlib import Path
import gptloop.exporter.export as exporter
from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.tensors import stored_tensors
from gptloop.graph.variants.lean import build_lean

checkpoints = [open_checkpoint(folder) for folder in sys.argv[2:]]
# Built once and inherited by every child: it writes nothing, and takes most of an export's time.
built = {id(c.config): build_lean(c.config, stored_tensors(c, "fp32"), "fp32", "lean", None) for c in checkpoints}
exporter.build_lean = lambda config, *_: built[id(config)]
for pair in range(int(sys.argv[1])):
    folder = Path(f"pair-{pair:02}")
    folder.mkdir()
    (start, go), children = os.pipe(), []
    for checkpoint in checkpoints:
        child = os.fork()
        if not child:
            os.close(go)
            os.read(start, 1)
            exporter.export(checkpoint, folder / "model.onnx", flavor="lean")
            os._exit(0)
        children.append(child)
    os.close(go)  # both may start
    os.close(start)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def test_of_two_exports_to_one_path_one_is_there_whole(old, new, old_tokens, new_tokens, tmp_path):
    for name, model in (("old", old), ("new", new)):
        model.save_pretrained(tmp_path / name)
    command = [sys.executable, "-c", PAIR, str(PAIRS), "old", "new"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=600, capture_output=True)
    folders = sorted(tmp_path.glob("pair-*"))
    assert len(folders) == PAIRS
    for folder in folders:
        inspect(folder / "model.onnx", verify=True)
        assert tokens(folder / "model.onnx") in (old_tokens, new_tokens)
        assert len(contents(folder)) == 2, "nothing of the other is left"


def test_an_export_waits_for_the_one_before_and_leaves_no_lock_behind(new, tmp_path):
    with alone_in(tmp_path):
        waiting = threading.Thread(target=export, args=(new, tmp_path / "model.onnx"))
        waiting.start()
        time.sleep(0.5)
        assert not contents(tmp_path)
    waiting.join(60)
    assert len(contents(tmp_path)) == 2


def test_the_lock_dies_with_its_process(new, tmp_path):
    code = "import sys, os, signal; from gptloop.exporter.lock import alone_in; from pathlib import Path\n"
    code += "with alone_in(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    export(new, tmp_path / "model.onnx")


@pytest.mark.parametrize("error", [errno.EBADF, errno.ENOLCK])
def test_where_a_folder_cannot_be_locked_a_file_in_it_is(new, new_tokens, tmp_path, monkeypatch, error):
    """As on a network file system."""
    flock = fcntl.flock

    def refusing(descriptor, operation):
        if Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path:
            raise OSError(error, os.strerror(error))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", refusing)
    with alone_in(tmp_path), (tmp_path / LOCK_FILE).open() as file, pytest.raises(BlockingIOError):
        flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert tokens(export(new, tmp_path / "model.onnx")) == new_tokens


def test_a_model_that_is_replaced_all_the_time_is_always_opened_as_one(old, new, old_tokens, new_tokens, tmp_path):
    """Metadata and weights of one and the same export, and no file missed."""
    path, done = tmp_path / "model.onnx", threading.Event()
    for name, model in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        export(model, tmp_path / name / "model.onnx")

    def replace() -> None:
        turn = 0
        while not done.is_set():
            turn += 1
            put(tmp_path / ("old", "new")[turn % 2], tmp_path)
            done.wait(0.01)

    put(tmp_path / "old", tmp_path)
    replacing = threading.Thread(target=replace)
    replacing.start()
    try:
        whose = {
            inspect(tmp_path / name / "model.onnx").metadata["gptloop_data_sha256"]: name for name in ("old", "new")
        }
        for _ in range(10):
            loop = OnnxLoop(path, device="cpu", threads=1)
            found = loop.generate([[1, 2, 3]], max_new_tokens=12, temperature=0)[0].tolist()
            expected = {"old": old_tokens, "new": new_tokens}[whose[loop.metadata["gptloop_data_sha256"]]]
            assert found == expected
            inspect(path)
    finally:
        done.set()
        replacing.join()


def put(source: Path, folder: Path) -> None:
    """What the end of an export does: the new parts, the new model, and away with the old parts."""
    names = {file.name for file in source.iterdir()}
    for name in sorted(names, key=lambda name: name == "model.onnx"):
        (folder / f"{name}.copy").write_bytes((source / name).read_bytes())
        os.replace(folder / f"{name}.copy", folder / name)
    for file in folder.glob("*.data"):
        if file.name not in names:
            file.unlink()
