"""The outlier channels of published checkpoints, moved into a trained model without changing what it computes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import GPT2LMHeadModel

CHANNELS = (3, 17, 42)


def layer_norm_outliers(model: GPT2LMHeadModel, factor: float) -> GPT2LMHeadModel:
    """Three channels behind each layer norm are larger by a factor, and the rows that read them smaller by as much."""
    changed = copy.deepcopy(model)
    channels = list(CHANNELS)
    with torch.no_grad():
        for block in changed.transformer.h:
            for norm, product in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                norm.weight[channels] *= factor
                norm.bias[channels] *= factor
                product.weight[channels] /= factor
    return changed


def value_outliers(model: GPT2LMHeadModel, factor: float) -> GPT2LMHeadModel:
    """Three channels of V are larger by a factor in each layer, and the rows that read the context smaller."""
    changed = copy.deepcopy(model)
    D = changed.config.n_embd
    with torch.no_grad():
        for block in changed.transformer.h:
            for channel in CHANNELS:
                block.attn.c_attn.weight[:, 2 * D + channel] *= factor
                block.attn.c_attn.bias[2 * D + channel] *= factor
                block.attn.c_proj.weight[channel] /= factor
    return changed


def token_outlier(
    model: GPT2LMHeadModel, ids: Sequence[int], token: int, factor: float, read: float = 1.0
) -> GPT2LMHeadModel:
    """In the last layer, one unit of the MLP answers to one token only, with `factor` times what the others reach.

    Found by least squares over a text: the direction in which the normalized rows of the token lie and no others do.
    The row that reads the unit is multiplied by `read`.
    """
    changed = copy.deepcopy(model)
    block = changed.transformer.h[-1]
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        block.ln_2.register_forward_hook(lambda _, __, y: seen.update(normed=y[0])),
        block.mlp.act.register_forward_hook(lambda _, __, y: seen.update(inner=y[0])),
    ]
    window = torch.tensor(ids[: changed.config.n_positions])
    with torch.no_grad():
        changed(window[None])
        wanted = (window == token).float()
        rows = torch.cat([seen["normed"], torch.ones(len(window), 1)], dim=1)
        direction = torch.linalg.lstsq(rows, wanted[:, None]).solution[:, 0]
        response = rows @ direction
        assert response[wanted == 1].min() > response[wanted == 0].max() + 0.2, "the token does not stand apart"
        middle = (response[wanted == 1].min() + response[wanted == 0].max()) / 2
        size = factor * seen["inner"].abs().max() / (response[wanted == 1].max() - middle)
        block.mlp.c_fc.weight[:, 0] = direction[:-1] * size
        block.mlp.c_fc.bias[0] = (direction[-1] - middle) * size
        block.mlp.c_proj.weight[0] *= read
    for hook in hooks:
        hook.remove()
    return changed
