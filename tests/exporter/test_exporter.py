"""Writing the file: what it holds and weighs, and that no moment of an export can leave half a model behind."""

import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from gptloop import OnnxLoop, export

pytestmark = pytest.mark.usefixtures("one_torch_thread")

EXTERNAL_FROM_BYTES = 1024  # smaller tensors stay in the .onnx file


@pytest.fixture(scope="module")
def old(tiny_model):
    return tiny_model(n_layer=1, weights_seed=1)


@pytest.fixture(scope="module")
def new(tiny_model):
    return tiny_model(n_layer=1, weights_seed=2)


def tokens(path: Path) -> list[int]:
    """What tells one model from another."""
    return OnnxLoop(path, device="cpu", threads=1).generate([[1, 2, 3]], max_new_tokens=12, temperature=0)[0].tolist()


@pytest.fixture(scope="module")
def old_tokens(old, tmp_path_factory):
    return tokens(export(old, tmp_path_factory.mktemp("old") / "model.onnx"))


@pytest.fixture(scope="module")
def new_tokens(new, old_tokens, tmp_path_factory):
    found = tokens(export(new, tmp_path_factory.mktemp("new") / "model.onnx"))
    assert found != old_tokens
    return found


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file's bytes by its name, None for a folder."""
    return {file.name: file.read_bytes() if file.is_file() else None for file in folder.iterdir()}


def parameter_bytes(model) -> list[int]:
    return [4 * parameter.numel() for parameter in model.parameters()]


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


# One export over another


@pytest.mark.parametrize("single_file", [False, True])
@pytest.mark.parametrize("old_single_file", [False, True])
def test_a_second_export_replaces_the_first_and_its_data(old, new, new_tokens, tmp_path, old_single_file, single_file):
    export(old, tmp_path / "model.onnx", single_file=old_single_file)
    path = export(new, tmp_path / "model.onnx", single_file=single_file)
    assert tokens(path) == new_tokens
    assert len(list(tmp_path.iterdir())) == (1 if single_file else 2)


def test_the_same_export_again_changes_nothing(new, tmp_path):
    export(new, tmp_path / "model.onnx")
    before = contents(tmp_path)
    export(new, tmp_path / "model.onnx")
    assert contents(tmp_path) == before


def test_data_that_another_model_in_the_folder_names_is_kept(old, new, old_tokens, new_tokens, tmp_path):
    path = export(old, tmp_path / "model.onnx")
    copy = shutil.copy(path, tmp_path / "copy.onnx")
    export(new, path)
    assert (tokens(Path(copy)), tokens(path)) == (old_tokens, new_tokens)
    os.remove(copy)
    export(new, path)
    assert len(list(tmp_path.iterdir())) == 2


def test_other_files_of_the_folder_are_left_alone(old, new, tmp_path):
    others = [
        "model-readme.data",
        "model-0123456789abcdef.data.bak",
        "other-0123456789abcdef.data",
        "model2-0123456789abcdef.data",
        "model.data",
        ".other-abc.unfinished.data",
        "notes.onnx",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"" if name == "notes.onnx" else b"kept")
    export(old, tmp_path / "model.onnx")
    export(new, tmp_path / "model.onnx")
    assert set(others) < set(contents(tmp_path))
    assert len(contents(tmp_path)) == len(others) + 2


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere")], ids=["folder", "dead link"])
def test_what_is_called_onnx_but_is_no_file_does_not_disturb_an_export(old, new, new_tokens, tmp_path, make):
    for name in ("a.onnx", "z.onnx"):
        make(tmp_path / name)
    export(old, tmp_path / "model.onnx")
    assert tokens(export(new, tmp_path / "model.onnx")) == new_tokens


# What is refused


def test_an_unknown_precision_is_refused_with_the_known_ones(new, tmp_path):
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, bf16, int8, got 'fp8'"):
        export(new, tmp_path / "model.onnx", precision="fp8")


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


# An export that fails


@contextlib.contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses to write more than `size` bytes into a file, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("single_file", [False, True], ids=["data file", "single file"])
def test_a_full_disk_leaves_the_old_model_and_nothing_else(old, new, tmp_path, single_file):
    export(old, tmp_path / "model.onnx")
    before = contents(tmp_path)
    with no_file_above(20_000), pytest.raises(OSError, match=r"too large|written"):
        export(new, tmp_path / "model.onnx", single_file=single_file)
    assert contents(tmp_path) == before


def test_a_disk_full_after_the_data_leaves_the_old_model_and_nothing_else(tiny_model, tmp_path):
    """Not even the new data file, which may well be what filled the disk."""
    old, new = (tiny_model(n_layer=1, n_embd=16, weights_seed=seed) for seed in (1, 2))
    export(old, tmp_path / "model.onnx")
    (data,) = tmp_path.glob("*.data")
    before = contents(tmp_path)
    with no_file_above(data.stat().st_size), pytest.raises(OSError, match=r"too large|written"):
        export(new, tmp_path / "model.onnx")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_export_leaves_the_old_model_and_nothing_else(old, new, tmp_path, error):
    def stop_at_the_third(done: int, total: int) -> None:
        if done == 3:
            raise error

    export(old, tmp_path / "model.onnx")
    before = contents(tmp_path)
    with pytest.raises(error):
        export(new, tmp_path / "model.onnx", progress=stop_at_the_third)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("nth", [0, 1], ids=["of the data file", "of the .onnx file"])
def test_a_rename_that_fails_leaves_the_old_model_and_nothing_else(old, new, tmp_path, monkeypatch, nth):
    export(old, tmp_path / "model.onnx")
    before, replace, calls = contents(tmp_path), os.replace, []

    def fail_at_nth(*args, **kwargs):
        calls.append(args)
        if len(calls) > nth:
            raise PermissionError(13, "Permission denied")
        return replace(*args, **kwargs)

    monkeypatch.setattr(os, "replace", fail_at_nth)
    with pytest.raises(PermissionError):
        export(new, tmp_path / "model.onnx")
    monkeypatch.undo()
    assert contents(tmp_path) == before


# An export that is killed

KILLED_EXPORTS = """
# Exports over copies of a folder, each export killed one change of the folder later than the one before.
#
# A change is one that a reader of the folder could see: a file that came, went or grew. It is looked for before and
# after every call that Python makes into C from the first temporary file on, so that no state is passed over.
import os, shutil, signal, sys
from pathlib import Path
from gptloop import graph
from gptloop.checkpoint import open_checkpoint
from gptloop.exporter.export import export
from gptloop.exporter.tensors import stored_tensors

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
built = graph.build(new.config, stored_tensors(new, "fp32"), "fp32")
graph.build = lambda *_, **__: built
for start in map(Path, sys.argv[2:]):
    for changes in range(1, 1000):
        folder = start.with_name(f"{start.name}-{changes:03}")
        shutil.copytree(start, folder)
        child = os.fork()
        if not child:
            kill_at_change(folder, changes)
            export(new, folder / "model.onnx")
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
