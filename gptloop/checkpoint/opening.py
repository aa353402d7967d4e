"""One way to a checkpoint, whatever the user has: a module, a directory, a hub id."""

from __future__ import annotations

from pathlib import Path

from transformers import GPT2LMHeadModel

from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.directory import from_directory
from gptloop.checkpoint.hub import download
from gptloop.checkpoint.module import from_module

Model = GPT2LMHeadModel | str | Path


def open_checkpoint(model: Model | Checkpoint) -> Checkpoint:
    """Find a model's configuration and weights.

    Args:
        model: A GPT2LMHeadModel, a local directory (config.json and safetensors), or a hub id.

    Raises:
        ValueError: If the configuration is one that gptloop does not build, or the weights do not fit it.
        FileNotFoundError: If the directory lacks config.json or safetensors files.
        TypeError: If `model` is something else.
    """
    if isinstance(model, Checkpoint):
        return model
    if isinstance(model, GPT2LMHeadModel):
        return from_module(model)
    if not isinstance(model, str | Path):
        raise TypeError(f"model must be a GPT2LMHeadModel, a hub id or a directory, got {type(model).__name__}")
    if Path(model).is_dir():
        return from_directory(Path(model), source=str(model))
    if isinstance(model, Path) or model.startswith((".", "/")) or model.count("/") > 1:
        raise FileNotFoundError(f"no such model directory: {model}")
    return from_directory(download(model), source=model)
