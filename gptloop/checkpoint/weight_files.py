"""The tensors in a folder's safetensors files, by their published names; none is read before it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors
import torch

from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.folder import file_in
from gptloop.checkpoint.json_object import read_json_object
from gptloop.checkpoint.layout import published_name, shared_prefix

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class Place(NamedTuple):
    """Where a tensor is stored."""

    file: Path
    key: str

    def read(self) -> torch.Tensor:
        """Read it.

        Raises:
            ValueError: If the file is no longer whole, or of a type that torch does not have.
        """
        try:
            with safetensors.safe_open(self.file, framework="pt") as opened:  # a mapping that goes when the tensor does
                return opened.get_tensor(self.key)
        except (safetensors.SafetensorError, AttributeError, RuntimeError) as error:
            raise ValueError(f"{self.file}: {brief(self.key)} cannot be read: {brief(error)}") from error


class StoredTensors(Mapping[str, torch.Tensor]):
    """Tensors that are read when asked for, so that a model is never whole in memory here."""

    def __init__(self, places: Mapping[str, Place]):
        self._places = places

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._places[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def find_tensors(folder: Path, source: str) -> dict[str, Place]:
    """Every tensor of a folder by its published name, the causal-mask buffers of old files aside.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one is no safetensors file or lies elsewhere, a tensor is stored twice, or a wrapper's name
            stands before some of the tensors' names.
    """
    stored = [Place(file, key) for file in _files(folder) for key in _keys(file)]
    prefix = shared_prefix([place.key for place in stored], source)
    places: dict[str, Place] = {}
    for place in stored:
        name = published_name(place.key.removeprefix(prefix))
        if name is None:
            continue
        if name in places:
            first = places[name]
            raise ValueError(
                f"{source}: {brief(name)} is stored twice, as {brief(first.key)} in {first.file.name} "
                f"and as {brief(place.key)} in {place.file.name}"
            )
        places[name] = place
    return places


def _files(folder: Path) -> list[Path]:
    """The one file, or else the index's; as in transformers, an index beside it is an old one's."""
    index = file_in(folder, INDEX)
    if (single := file_in(folder, WEIGHTS)).is_file() or not index.is_file():
        files = [single]
    else:
        weight_map = read_json_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ValueError(f"{index} has no weight_map from tensors to files")
        files = [file_in(folder, name) for name in sorted(set(weight_map.values()))]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing{_instead(folder)}")
    return files


def _keys(file: Path) -> list[str]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file} is not a whole safetensors file: {brief(error)}") from error


def _instead(folder: Path) -> str:
    if any(file for pattern in ("*.bin", "*.pt", "*.ckpt") for file in folder.glob(pattern)):
        return "; pickled weights are not read, save them again with safetensors"
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    return f"; {brief(', '.join(others))} there is not read, as in transformers" if others else ""
