"""One way to a checkpoint, whatever the user has: a module, a directory, a hub id."""

from __future__ import annotations

import os
import re
from pathlib import Path

from transformers import GPT2LMHeadModel

from gptloop.checkpoint.brief import brief
from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.directory import from_directory
from gptloop.checkpoint.folder import check_path
from gptloop.checkpoint.hub import download
from gptloop.checkpoint.module import from_module

HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)
WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".ckpt")

Model = GPT2LMHeadModel | str | Path


def open_checkpoint(model: Model | Checkpoint) -> Checkpoint:
    """Find a model's configuration and weights.

    Args:
        model: A GPT2LMHeadModel, a local directory (config.json and safetensors), or a hub id.

    Raises:
        ValueError: If the configuration is one that gptloop does not build, or the weights do not fit it; if `model`
            is a file, or a file of it lies elsewhere.
        FileNotFoundError: If the directory lacks config.json or safetensors files, or neither it nor a model of that
            id on the hub is found.
        TypeError: If `model` is something else.
    """
    if isinstance(model, Checkpoint):
        return model
    if isinstance(model, GPT2LMHeadModel):
        return from_module(model)
    if not isinstance(model, str | Path):
        raise TypeError(f"model must be a GPT2LMHeadModel, a hub id or a directory, got {type(model).__name__}")
    path = str(model)
    if os.path.isdir(path):
        check_path(Path(model))
        return from_directory(Path(model), source=path)
    if os.path.exists(path):
        raise ValueError(f"{path} is a file; give the folder that holds the weights and config.json")
    if isinstance(model, Path) or not HUB_ID.fullmatch(model) or model.endswith(WEIGHT_FILES):
        raise FileNotFoundError(f"no such model directory: {brief(path)}")
    directory = download(model)
    try:
        return from_directory(directory, source=model)
    except FileNotFoundError as error:
        read = "of a hub repository config.json and safetensors are read; pickled weights (pytorch_model.bin) are not"
        raise FileNotFoundError(f"{model}: {error}; {read}, save them again with safetensors") from error
