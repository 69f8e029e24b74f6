"""Overlap of two Gaussians."""

from __future__ import annotations

import torch
from torch import Tensor

_PACKED = {2: ((0, 0), (0, 1), (1, 1)), 3: ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))}


def pack_symmetric(matrix: Tensor) -> Tensor:
    """Upper triangles of symmetric matrices ``(..., d, d)``, row by row, ``(..., 3)`` or ``(..., 6)``."""
    return torch.stack([matrix[..., i, j] for i, j in _PACKED[matrix.shape[-1]]], dim=-1)


def gaussian_overlap(gap: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    r"""Overlap energy of two Gaussians: low where they overlap.

    .. math:: E_{ij} = (\mu_i - \mu_j)^\top (\Sigma_i + \Sigma_j)^{-1} (\mu_i - \mu_j) + \log\det(\Sigma_i + \Sigma_j)

    Up to a constant, this is −2 times the logarithm of the integral of their product. ``gap`` holds the differences of
    the means ``(..., d)``, ``covariance`` the sums of the covariances as packed by :func:`pack_symmetric`. Returns the
    energy and the log-determinant (clamped to ±20), each ``(...)``.
    """
    determinant, solved = (_solve_2d if covariance.shape[-1] == 3 else _solve_3d)(gap, covariance)
    determinant = determinant.clamp_min(torch.finfo(gap.dtype).tiny)
    log_det = determinant.log().clamp(-20.0, 20.0)
    return solved / determinant + log_det, log_det


def _solve_2d(gap: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Determinant of S and gapᵀ·adj(S)·gap, in closed form: a hundred times faster than batched decompositions."""
    a, b, c = s.unbind(-1)
    x, y = gap.unbind(-1)
    return a * c - b * b, c * x * x - 2 * b * x * y + a * y * y


def _solve_3d(gap: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    a, b, c, d, e, f = s.unbind(-1)
    x, y, z = gap.unbind(-1)
    xx, xy, xz = d * f - e * e, c * e - b * f, b * e - c * d
    yy, yz, zz = a * f - c * c, b * c - a * e, a * d - b * b
    squares = xx * x * x + yy * y * y + zz * z * z
    return a * xx + b * xy + c * xz, squares + 2 * (xy * x * y + xz * x * z + yz * y * z)
