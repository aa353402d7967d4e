"""A checkpoint in a local directory: config.json and safetensors files, one or several shards."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import safetensors
import torch

from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.config import read_config
from gptloop.checkpoint.json_object import read_json_object
from gptloop.checkpoint.layout import leave_out_other_tasks, published_name


def from_directory(directory: Path, source: str) -> Checkpoint:
    """The checkpoint in a directory, as `open_checkpoint` has it."""
    config = read_config(directory / "config.json")
    tensors = _SafetensorsFiles(_safetensors_files(directory))
    if config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    elif "lm_head.weight" not in tensors:
        raise ValueError(f"{source}: tie_word_embeddings is false, but the weights lack lm_head.weight")
    leave_out_other_tasks(tensors, source)
    return Checkpoint(config, tensors, source, directory=directory)


def _safetensors_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        weight_map = read_json_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ValueError(f"{index} has no weight_map from tensors to files")
        files = sorted({directory / name for name in weight_map.values()})
    else:
        files = [directory / "model.safetensors"]
    for file in files:
        if not file.is_file():
            hint = "; pickled weights are not read, save them again with safetensors" if _pickles(directory) else ""
            raise FileNotFoundError(f"{file} is missing{hint}")
    return files


def _pickles(directory: Path) -> list[Path]:
    return [*directory.glob("*.bin"), *directory.glob("*.pt"), *directory.glob("*.ckpt")]


class _SafetensorsFiles(MutableMapping[str, torch.Tensor]):
    """Tensors of safetensors files, each read when asked for, so that a model is never whole in memory here."""

    def __init__(self, files: list[Path]):
        self._places: dict[str, tuple[Path, str]] = {}
        for file in files:
            try:
                with safetensors.safe_open(file, framework="pt") as opened:
                    keys = opened.keys()
            except safetensors.SafetensorError as error:
                raise ValueError(f"{file} is not a whole safetensors file: {error}") from error
            self._places |= {name: (file, key) for key in keys if (name := published_name(key))}

    def __getitem__(self, name: str) -> torch.Tensor:
        file, key = self._places[name]
        with safetensors.safe_open(file, framework="pt") as opened:  # a mapping that goes when the tensor does
            return opened.get_tensor(key)

    def __setitem__(self, name: str, tensor: torch.Tensor) -> None:
        raise TypeError("the files of a checkpoint are read only")

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
