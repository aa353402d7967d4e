"""A model repository of Triton: a folder of models, each with its configuration and numbered versions.

    REPOSITORY/gpt2/config.pbtxt
    REPOSITORY/gpt2/1/model.onnx, and the files that it names

The files are copies. Hard links would do for Triton, but ONNX Runtime (1.32) opens no data file that has two names
when a Loop's body reads it: "multiple hard links, indicating a potential hardlink attack".

Knows where files go and in which order; the configuration is triton_config's.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gptloop.model_file import ModelFile, read_model
from gptloop.serving.triton_config import KINDS, config_text
from gptloop.values import shown, whole_number

CONFIG, MODEL = "config.pbtxt", "model.onnx"  # by which Triton finds them
INT32_MAX = 2**31 - 1  # max_batch_size is an int32 of the protobuf message


def add_to_repository(
    path: str | Path, repository: str | Path, *, name: str = "gpt2", max_batch_size: int = 16, device: str = "cpu"
) -> Path:
    """Add an exported model to a model repository, as Triton's ONNX Runtime backend reads it.

    A model that is there under this name, with the same configuration, gets a further version, which Triton serves from
    then on; where its latest version is the same file already, nothing is written. A version appears whole or not at
    all.

    Args:
        path: The .onnx file that `gptloop.export` wrote, of flavor "standard".
        repository: The folder; it is made if the one that it is in exists.
        name: What clients call the model.
        max_batch_size: Prompts of one call at most.
        device: "cpu" or "cuda", where Triton runs it.

    Returns:
        The folder of the version.

    Raises:
        ValueError: If the file cannot be served, a value is out of its bounds, or a model of this name is there with
            another configuration.
        FileNotFoundError: If the model file, its data file, or the folder that the repository is in does not exist.
        OSError: If the files cannot be written. Then the repository is as it was.
    """
    path, repository = Path(path), Path(repository)
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(f"name must be up to 100 letters, digits, '.', '_' and '-', not first '.', got {shown(name)}")
    whole_number("max_batch_size", max_batch_size, 1, INT32_MAX)
    if device not in KINDS:
        raise ValueError(f"device must be one of {', '.join(KINDS)}, got {shown(device)}")
    while True:
        file = read_model(path)
        try:
            return _add(file, repository / name, config_text(file, name, max_batch_size, device))
        except FileNotFoundError:
            if file.is_current():
                raise


def _add(file: ModelFile, model: Path, config: str) -> Path:
    repository = model.parent
    if not repository.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {repository.parent}")
    repository.mkdir(exist_ok=True)
    if not model.exists():
        with _unfinished(model) as new:
            (new / CONFIG).write_text(config, encoding="utf-8")
            _copy(file, new / "1")
            os.rename(new, model)
        return model / "1"
    _check_same(model, config)
    latest = max((int(entry.name) for entry in model.iterdir() if re.fullmatch(r"[1-9][0-9]*", entry.name)), default=0)
    if latest and _is_same(file, model / str(latest)):
        return model / str(latest)
    version = model / str(latest + 1)
    with _unfinished(version) as new:
        _copy(file, new / "files")
        os.rename(new / "files", version)
    return version


def _check_same(model: Path, config: str) -> None:
    """Somebody may have changed a configuration by hand, and requests to the old one may be under way."""
    there = model / CONFIG
    if not there.is_file() or there.read_text(encoding="utf-8", errors="replace") != config:
        raise ValueError(f"{model} is there with another {CONFIG}: remove it, or choose another name")


def _is_same(file: ModelFile, version: Path) -> bool:
    """By the .onnx file, which names its data by its content, and by their sizes."""
    present = version / MODEL
    if not present.is_file() or not filecmp.cmp(file.path, present, shallow=False):
        return False
    parts = file.data_places | file.tokenizer_places
    return all(
        (version / name).is_file() and (version / name).stat().st_size == real.stat().st_size
        for name, real in parts.items()
    )


def _copy(file: ModelFile, folder: Path) -> None:
    """The files of one state of the model, onto the disk."""
    folder.mkdir()
    for name, real in {MODEL: file.path, **file.data_places, **file.tokenizer_places}.items():
        shutil.copyfile(real, folder / name)
        with (folder / name).open("rb") as copy:
            os.fsync(copy.fileno())
    if not file.is_current():
        raise FileNotFoundError(f"{file.path} was replaced while it was copied")


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A folder beside `target` that is gone when the block ends, however it ends, unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".unfinished", dir=target.parent))
    try:
        folder.chmod(0o755)  # a server of another user is to read it
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
