"""A checkpoint in a local directory: config.json and safetensors files, one or several shards."""

from __future__ import annotations

from pathlib import Path

import torch

from gptloop.checkpoint.checkpoint import Checkpoint
from gptloop.checkpoint.config import read_config
from gptloop.checkpoint.folder import file_in
from gptloop.checkpoint.generation import defaults_in_folder
from gptloop.checkpoint.layout import other_tasks, warn_left_out
from gptloop.checkpoint.weight_files import Place, StoredTensors, find_tensors


def from_directory(directory: Path, source: str) -> Checkpoint:
    """The checkpoint in a directory, as `open_checkpoint` has it."""
    if (directory / "adapter_config.json").exists():
        raise ValueError(
            f"{source} holds a PEFT adapter; merge it into its model first (merge_and_unload), and save that"
        )
    config = read_config(file_in(directory, "config.json"))
    places = find_tensors(directory, source)
    _tie(places, config.tie_word_embeddings, source)
    left_out = other_tasks(places)
    for name in left_out:
        del places[name]
    defaults = defaults_in_folder(directory, config.vocab_size)
    checkpoint = Checkpoint(config, StoredTensors(places), source, directory=directory, generation=defaults)
    warn_left_out(left_out, source)
    return checkpoint


def _tie(places: dict[str, Place], tied: bool, source: str) -> None:
    """Settle what is the LM head: as in transformers, tied means that one of two may be absent, not that one is.

    Two that differ are both used, whatever the configuration says.
    """
    head, embedding = places.get("lm_head.weight"), places.get("wte.weight")
    if not tied:
        if not head:
            raise ValueError(f"{source}: tie_word_embeddings is false, but the weights lack lm_head.weight")
    elif head and (not embedding or _equal(head.read(), embedding.read())):
        places["wte.weight"] = embedding or head
        del places["lm_head.weight"]


def _equal(head: torch.Tensor, embedding: torch.Tensor) -> bool:
    if not (head.is_floating_point() and embedding.is_floating_point()):
        return False  # and refused as what they are
    return torch.equal(head.float(), embedding.float())
