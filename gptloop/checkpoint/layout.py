"""The names under which tensors are stored, and the published ones."""

from __future__ import annotations

import re
import warnings
from collections.abc import MutableMapping

import torch


def leave_out_other_tasks(tensors: MutableMapping[str, torch.Tensor], source: str) -> None:
    """Remove, with a warning, tensors of other tasks' heads; those of unknown layers stay, to be refused."""
    parts = ("wte.", "wpe.", "h.", "ln_f.", "lm_head.")
    for name in [name for name in tensors if not name.startswith(parts)]:
        del tensors[name]
        warnings.warn(f"{source}: {name} is no part of a language model and is left out", stacklevel=4)


def published_name(stored: str) -> str | None:
    """The name of a stored tensor in the published layout, or None for the causal-mask buffers of old files."""
    name = stored.removeprefix("transformer.")
    return None if re.fullmatch(r"h\.\d+\.attn\.(bias|masked_bias)", name) else name
