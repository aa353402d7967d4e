"""The names under which tensors are stored, and the published ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gptloop.caller import warn_caller
from gptloop.checkpoint.brief import brief

PARTS = ("wte.", "wpe.", "h.", "ln_f.", "lm_head.")


def published_name(stored: str) -> str | None:
    """The name of a stored tensor in the published layout, or None for the causal-mask buffers of old files.

    As in transformers, a base model's `transformer.` may be absent, or stand before the whole model's names, too.
    """
    name = stored.removeprefix("transformer.").removeprefix("transformer.")
    return None if re.fullmatch(r"h\.\d+\.attn\.(bias|masked_bias)", name) else name


def shared_prefix(stored: Sequence[str], source: str) -> str:
    """What a wrapper put before the name of every tensor: `module.` (DataParallel), `_orig_mod.` (torch.compile).

    Raises:
        ValueError: If it stands before some names only, or if they are an adapter's.
    """
    if any(".lora_" in name or ".base_layer." in name for name in stored):
        raise ValueError(
            f"{source}: the tensors are a PEFT adapter's; merge it into its model first (merge_and_unload)"
        )
    anchors = [found[1] for name in stored if (found := re.fullmatch(r"(.*\.|)wpe\.weight", name, re.DOTALL))]
    prefixes = [re.sub(r"(transformer\.)+$", "", anchor) for anchor in anchors]
    if not prefixes or "" in prefixes:
        return ""
    others = [name for name in stored if not name.startswith(prefixes[0])]
    if others:
        raise ValueError(
            f"{source}: {len(stored) - len(others)} of {len(stored)} tensors' names begin with {brief(prefixes[0])}, "
            f"and others, such as {brief(others[0])}, do not; save the weights of the GPT2LMHeadModel itself"
        )
    return prefixes[0]


def other_tasks(names: Iterable[str]) -> list[str]:
    """Tensors that are of no part of a language model; those of unknown layers are not among them."""
    return [name for name in names if not name.startswith(PARTS)]


def warn_left_out(left_out: Sequence[str], source: str) -> None:
    """Say, in one line, that tensors of other tasks' heads are left out."""
    if left_out:
        more = f" (like {len(left_out) - 1} more)" if len(left_out) > 1 else ""
        text = f"{source}: {brief(left_out[0])} is no part of a language model and is left out{more}"
        warn_caller(text)
