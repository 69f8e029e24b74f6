"""Cells in an order along a space-filling curve: what is near in the order is near in the tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hilbert_order(coords: NDArray[np.floating], n_bits: int = 16) -> NDArray[np.intp]:
    """Order of points ``(n, d)`` along a Hilbert curve, ``(n,)``.

    The box of the points, a square or a cube, has ``2**n_bits`` steps along each side. Points of one step keep their order.

    References
    ----------
    Skilling, Programming the Hilbert curve, AIP Conference Proceedings 707 (2004).
    """
    lowest = coords.min(axis=0)
    side = max(float((coords - lowest).max()), np.finfo(np.float64).tiny)
    steps = np.minimum((coords - lowest) / side * 2**n_bits, 2**n_bits - 1).astype(np.uint64)
    return np.argsort(_interleaved(_transposed(steps.T.copy(), n_bits), n_bits), kind="stable")


def _transposed(x: NDArray[np.uint64], n_bits: int) -> NDArray[np.uint64]:
    """Bits of the position on the curve, shared out to the axes ``(d, n)`` in turn; works in place."""
    bit = np.uint64(1) << np.uint64(n_bits - 1)
    while bit > 1:  # undo what deeper levels of the curve have turned
        below = bit - np.uint64(1)
        for axis in range(len(x)):
            swapped = (x[0] ^ x[axis]) & below
            set_here = (x[axis] & bit) > 0
            x[axis] ^= np.where(set_here, 0, swapped).astype(np.uint64)
            x[0] ^= np.where(set_here, below, swapped).astype(np.uint64)
        bit >>= np.uint64(1)
    for axis in range(1, len(x)):  # to Gray code
        x[axis] ^= x[axis - 1]
    flips, bit = np.zeros_like(x[0]), np.uint64(1) << np.uint64(n_bits - 1)
    while bit > 1:
        flips ^= np.where((x[-1] & bit) > 0, bit - np.uint64(1), 0).astype(np.uint64)
        bit >>= np.uint64(1)
    x ^= flips
    return x


def _interleaved(x: NDArray[np.uint64], n_bits: int) -> NDArray[np.uint64]:
    """One number per point ``(n,)``, from the bits of all axes ``(d, n)``, the highest first."""
    key: NDArray[np.uint64] = np.zeros_like(x[0])
    for level in range(n_bits - 1, -1, -1):
        for axis in x:
            key = (key << np.uint64(1)) | ((axis >> np.uint64(level)) & np.uint64(1))
    return key
