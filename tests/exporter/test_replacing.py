"""One export over another: what goes, and what stays although it looks alike."""

import os
import shutil
from pathlib import Path

import pytest
from exported_files import contents, export, tokens

pytestmark = pytest.mark.usefixtures("one_torch_thread")


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


@pytest.mark.parametrize("name", ["model.onnx.bak", "model.onnx~", "MODEL.ONNX", "backup", "model.onnx.2024-05-01"])
def test_a_backup_keeps_its_data_whatever_it_is_called(old, new, old_tokens, new_tokens, tmp_path, name):
    path = export(old, tmp_path / "model.onnx")
    backup = Path(shutil.copy(path, tmp_path / name))
    export(new, path)
    export(new, path, single_file=True)
    assert (tokens(path), tokens(backup)) == (new_tokens, old_tokens)


def test_an_export_that_fails_removes_nothing_that_was_there(old, new, tmp_path):
    """Not even the data of a model that stands in another folder for the moment."""
    path = export(old, tmp_path / "model.onnx")
    path.rename(tmp_path / "moved")
    before = contents(tmp_path)

    def stop(done: int, total: int) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        export(new, path, progress=stop)
    assert contents(tmp_path) == before


def test_a_file_that_cannot_be_read_keeps_the_data_and_fails_no_export(old, new, new_tokens, tmp_path, monkeypatch):
    path = export(old, tmp_path / "model.onnx")
    (data,) = tmp_path.glob("*.data")
    (tmp_path / "secret.onnx").write_bytes(b"\x08")
    open_ = Path.open

    def refusing(file, *arguments, **keywords):
        if file.name == "secret.onnx":
            raise PermissionError(13, "Permission denied", str(file))
        return open_(file, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", refusing)
    export(new, path)
    assert data.exists(), "which the file may name"
    assert tokens(path) == new_tokens


UNFINISHED, PART = ".model-x1.unfinished.data", f"model-{'0' * 16}.data"


@pytest.mark.parametrize("name", [UNFINISHED, ".model-x1.unfinished.onnx", PART])
def test_a_link_of_a_name_that_is_tidied_away_fails_no_export_and_loses_nothing(old, new, new_tokens, tmp_path, name):
    path = export(old, tmp_path / "model.onnx")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (tmp_path / name).symlink_to(elsewhere)
    assert tokens(export(new, path)) == new_tokens
    assert (elsewhere / "kept").exists()


def test_a_folder_of_a_parts_name_fails_no_export_and_stays(old, new, new_tokens, tmp_path):
    path = export(old, tmp_path / "model.onnx")
    (tmp_path / PART).mkdir()
    assert tokens(export(new, path)) == new_tokens
    assert (tmp_path / PART).is_dir()


@pytest.mark.parametrize("refusing", ["unlink", "iterdir"])
def test_tidying_that_fails_is_no_failure_of_the_export(old, new, new_tokens, tmp_path, monkeypatch, refusing):
    path = export(old, tmp_path / "model.onnx")
    function = getattr(Path, refusing)

    def refuse(file, *arguments, **keywords):
        if refusing == "iterdir" or ".unfinished" not in file.name:
            raise PermissionError(13, "Permission denied", str(file))
        return function(file, *arguments, **keywords)

    monkeypatch.setattr(Path, refusing, refuse)
    export(new, path)
    monkeypatch.undo()
    assert tokens(path) == new_tokens
