"""An export that fails leaves what was there, and says which file could not be written and why."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator

import pytest
from exported_files import contents, export

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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


@pytest.mark.parametrize("single_file", [False, True], ids=["data file", "single file"])
def test_a_full_disk_is_told_with_the_models_name_and_the_systems_words(new, tmp_path, single_file):
    path = tmp_path / "model.onnx"
    with no_file_above(20_000), pytest.raises(OSError, match="File too large") as caught:
        export(new, path, single_file=single_file)
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value) == f"[Errno {errno.EFBIG}] cannot write {path}: File too large"


def test_a_checkpoint_that_cannot_be_read_is_no_full_disk(new, tmp_path, monkeypatch):
    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory", "model.safetensors")

    monkeypatch.setattr("gptloop.exporter.tensors._read", gone)
    with pytest.raises(FileNotFoundError, match=r"directory: 'model\.safetensors'$"):
        export(new, tmp_path / "model.onnx")


def test_the_process_keeps_its_umask_at_every_moment(new, tmp_path, monkeypatch):
    """Another thread may create a file meanwhile."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("changed the umask"))
    export(new, tmp_path / "model.onnx")
