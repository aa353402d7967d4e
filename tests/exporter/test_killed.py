"""An export that is killed: no moment of it can leave half a model behind."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from exported_files import contents, export, tokens

pytestmark = pytest.mark.usefixtures("one_torch_thread")

KILLED_EXPORTS = """
# Exports over copies of a folder, each export killed one change of the folder later than the one before.
#
# A change is one that a reader of the folder could see: a file that came, went or grew. It is looked for before and
# after every call that Python makes into C from the first temporary file on, so that no state is passed over.
import os, shutil, signal, sys
from pathlib import Path
import gptloop.exporter.export as exporter
from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.tensors import stored_tensors
from gptloop.graph.variants.lean import build_lean

TOUCH_NO_FILE = {"add", "append", "getattr", "hasattr", "isinstance", "issubclass", "iter", "keys", "len", "startswith"}

def listing(folder):
    walk = os.walk(folder)
    return [(path, dirs, [(f, os.stat(os.path.join(path, f)).st_size) for f in files]) for path, dirs, files in walk]

def kill_at_change(folder, changes):
    last = listing(folder)
    def look(frame, event, arg):
        nonlocal last, changes
        if event in ("c_call", "c_return") and arg.__name__ not in TOUCH_NO_FILE:
            now = listing(folder)
            if now != last:
                last, changes = now, changes - 1
                if changes == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
    def start(event, args):
        if event == "tempfile.mkstemp":
            sys.setprofile(look)
    sys.addaudithook(start)

new = open_checkpoint(sys.argv[1])
# Built once and inherited by every child: it writes nothing, and takes most of an export's time.
built = build_lean(new.config, stored_tensors(new, "fp32"), "fp32", "lean", None)
exporter.build_lean = lambda *_: built
for start in map(Path, sys.argv[2:]):
    for changes in range(1, 1000):
        folder = start.with_name(f"{start.name}-{changes:03}")
        shutil.copytree(start, folder)
        child = os.fork()
        if not child:
            kill_at_change(folder, changes)
            exporter.export(new, folder / "model.onnx", flavor="lean")
            os._exit(0)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            break
"""


STARTS = ["nothing", "a model"]


@pytest.fixture(scope="module")
def killed(old, new, tmp_path_factory) -> dict[str, list[Path]]:
    """Folders in the state that a kill left them in, by what they held before; the last export of each ended well."""
    root = tmp_path_factory.mktemp("killed")
    starts = [root / name for name in STARTS]
    for start in starts:
        start.mkdir()
    export(old, root / "a model" / "model.onnx")
    new.save_pretrained(root / "new")
    subprocess.run([sys.executable, "-c", KILLED_EXPORTS, root / "new", *starts], check=True, timeout=300)
    return {start.name: sorted(root.glob(f"{start.name}-*")) for start in starts}


def kinds(folder: Path) -> list[str]:
    """What a folder holds: model, data (once for each such file), unfinished (if anything else)."""
    names = [file.name for file in folder.iterdir()]
    finished = [name for name in names if re.fullmatch(r"model(-[0-9a-f]{16}\.data|\.onnx)", name)]
    found = ["data" if name.endswith(".data") else "model" for name in finished]
    return sorted(found + ["unfinished"] * (len(finished) < len(names)))


@pytest.mark.parametrize("start", STARTS)
def test_kills_met_every_stage_of_an_export(killed, start):
    """So that the tests below are about something: data unfinished, data in place, .onnx unfinished, committed."""
    seen = [kinds(folder) for folder in killed[start]]
    before = {"nothing": [], "a model": ["data", "model"]}[start]
    for stage in (["unfinished"], ["data"], ["data", "unfinished"]):
        assert sorted(before + stage) in seen
    assert seen[-1] == ["data", "model"]


def test_kills_met_the_moment_between_commit_and_tidying(killed, new_tokens):
    committed = [folder for folder in killed["a model"] if tokens(folder / "model.onnx") == new_tokens]
    assert kinds(committed[0]) == ["data", "data", "model"]


@pytest.mark.parametrize("start", STARTS)
def test_a_killed_export_leaves_the_old_model_or_the_new_one(killed, start, old_tokens, new_tokens):
    """Never a mix, never half of one; and once the new one is there, it stays."""
    before = None if start == "nothing" else old_tokens
    found = [tokens(folder / "model.onnx") if (folder / "model.onnx").exists() else None for folder in killed[start]]
    assert set(map(str, found)) == {str(before), str(new_tokens)}
    assert found == sorted(found, key=lambda model: model == new_tokens)


@pytest.mark.parametrize(
    ("start", "descending"),
    [("nothing", False), ("a model", False), ("a model", True)],
    ids=["nothing, names ascending", "a model, names ascending", "a model, names descending"],
)
def test_the_next_export_removes_what_a_kill_left(killed, start, old, old_tokens, tmp_path, monkeypatch, descending):
    """In whichever order the system lists the files: an unfinished .onnx file names the data that it was to have."""
    stages = {(*kinds(folder), len(list(folder.iterdir()))): folder for folder in killed[start]}
    copies = [shutil.copytree(folder, tmp_path / str(stage)) for stage, folder in enumerate(stages.values())]
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(iterdir(path), reverse=descending)))
    for copy in copies:
        before = list(contents(copy))
        assert tokens(export(old, copy / "model.onnx")) == old_tokens
        assert kinds(copy) == ["data", "model"], before


def test_an_export_in_another_process_gives_the_same_bytes(killed, tmp_path):
    there = killed["nothing"][-1]
    export(there.parent / "new", tmp_path / "model.onnx")
    assert contents(tmp_path) == contents(there)
