"""An orthogonal matrix that spreads each channel over all, and that layer norms do not notice."""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy.fft
import torch

DRAWS = 5000  # of signs for a matrix; fewer above an order of 40, so that all of them take some tenths of a second


def rotate(x: torch.Tensor, axis: int = -1) -> torch.Tensor:
    """Multiply by Q along an axis; Q is its own inverse and its own transpose.

    Q is the Kronecker product of `factors`, so that a graph can multiply by it with two small matrices.

    Args:
        x: A floating type, D long along the axis.
        axis: Which one.
    """
    left, right = (factor.to(x.dtype) for factor in factors(x.shape[axis]))
    channels = x.movedim(axis, -1).unflatten(-1, (len(left), len(right)))
    return (left @ channels @ right).flatten(-2).movedim(-1, axis)


def factors(D: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Float32 [a, a] and [b, b] with a * b = D, as near to each other as D's divisors allow.

    A row of D values, as [a, b], is multiplied by Q when the first stands to its left and the second to its right.
    """
    a = max(n for n in range(1, math.isqrt(D) + 1) if D % n == 0)
    return _spreading(a), _spreading(D // a)


@functools.cache
def _spreading(n: int) -> torch.Tensor:
    """C^T S C: C the orthonormal cosine transform, whose first row is constant, S signs of which the first is 1.

    So the direction (1, ..., 1) stays. Of some random signs, those of the smallest largest entry: float32 [n, n].
    """
    cosines = scipy.fft.dct(np.eye(n), axis=0, norm="ortho")
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (max(1, min(DRAWS, DRAWS * 40**2 // n**2)), n))
    signs[:, 0] = 1
    flattest = min((cosines.T * row @ cosines for row in signs), key=lambda q: np.abs(q).max())
    return torch.from_numpy(flattest.astype(np.float32))
