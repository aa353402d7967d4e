"""Matrices in 8 bits."""

from __future__ import annotations

import torch


def quantize(matrix: torch.Tensor, per_row: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric int8, -127 to 127, with one scale per row or per column.

    Args:
        matrix: float32 [rows, columns].
        per_row: Whether a scale is a row's.

    Returns:
        int8 [rows, columns], and the scales, float32 [rows] or [columns].
    """
    axis = 1 if per_row else 0
    scale = matrix.abs().amax(axis, keepdim=True) / 127
    scale[scale == 0] = 1
    # Where a row's values are so small that their scale is rounded coarsely, the quotient may lie beyond 127.
    return (matrix / scale).round().clamp(-127, 127).to(torch.int8), scale.squeeze(axis)
