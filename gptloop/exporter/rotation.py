"""An orthogonal matrix that spreads each channel over all, and that layer norms do not notice."""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch


def rotate(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """Multiply by Q along an axis; Q is its own inverse and its own transpose.

    Q = C^T S C, with C the orthonormal discrete cosine transform, whose first row is constant, and S random signs of
    which the first is 1. So the direction (1, ..., 1) stays, and every other channel is spread over all.

    Args:
        x: float32, D long along the axis.
        axis: Which one.
    """
    D = x.shape[axis]
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0], dtype=np.float32), D)
    signs[0] = 1
    shape = [1] * x.ndim
    shape[axis] = D
    spectrum = scipy.fft.dct(x.numpy(), axis=axis, norm="ortho") * signs.reshape(shape)
    return torch.from_numpy(scipy.fft.idct(spectrum, axis=axis, norm="ortho"))
