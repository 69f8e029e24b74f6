"""Rotations and rotation vectors in two and three dimensions, with finite gradients everywhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def n_angles(n_dims: int) -> int:
    """Number of parameters of a rotation: 1 in two dimensions, 3 in three."""
    return n_dims * (n_dims - 1) // 2


def rotation_exp(vector: Tensor) -> Tensor:
    r"""Rotation matrix of a rotation vector.

    .. math:: \exp [\omega]_\times = I + \frac{\sin\theta}{\theta} [\omega]_\times
              + \frac{1 - \cos\theta}{\theta^2} [\omega]_\times^2, \quad \theta = \lVert \omega \rVert

    (Rodrigues). Vectors are in radians, ``(..., 3)``, and matrices ``(..., 3, 3)``. In two dimensions, the vector
    ``(..., 1)`` is the angle.
    """
    if vector.shape[-1] == 1:
        cos, sin = vector[..., 0].cos(), vector[..., 0].sin()
        return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    square = vector.square().sum(-1)
    small = _is_small(square)
    # the gradient of the root is infinite at zero, and masked values must be finite too
    angle = torch.where(small, torch.ones_like(square), square).sqrt()
    first = torch.where(small, 1 - square / 6, angle.sin() / angle)
    second = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / angle.square())
    cross = _cross_matrix(vector)
    eye = torch.eye(3, dtype=vector.dtype, device=vector.device)
    return eye + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)


def rotation_log(rotation: Tensor) -> Tensor:
    """Rotation vector of a rotation matrix, of length at most π: the inverse of :func:`rotation_exp`.

    Notes
    -----
    In three dimensions, the vector is computed from a quaternion by its largest component (Shepperd 1978). This is
    accurate near π too, where the antisymmetric part of the matrix vanishes.
    """
    if rotation.shape[-1] == 2:
        sin = rotation[..., 1, 0] - rotation[..., 0, 1]
        cos = rotation[..., 0, 0] + rotation[..., 1, 1]
        return torch.atan2(sin, cos)[..., None]
    real, imaginary = _quaternion(rotation)
    square = imaginary.square().sum(-1)
    small = _is_small(square)
    norm = torch.where(small, torch.ones_like(square), square).sqrt()
    safe_real = torch.where(small, real, torch.ones_like(real))
    factor = torch.where(small, 2 / safe_real, 2 * torch.atan2(norm, real) / norm)
    return factor[..., None] * imaginary


def _is_small(square: Tensor) -> Tensor:
    """Squared angles for which sin θ / θ and the like are replaced by their series."""
    return square < 1e-6


def _quaternion(rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Unit quaternion with a non-negative real part, ``(...)`` and ``(..., 3)``."""
    m = [[rotation[..., i, j] for j in range(3)] for i in range(3)]
    x, y, z = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    rows = [
        [1 + m[0][0] + m[1][1] + m[2][2], x, y, z],
        [x, 1 + m[0][0] - m[1][1] - m[2][2], m[1][0] + m[0][1], m[0][2] + m[2][0]],
        [y, m[1][0] + m[0][1], 1 - m[0][0] + m[1][1] - m[2][2], m[2][1] + m[1][2]],
        [z, m[0][2] + m[2][0], m[2][1] + m[1][2], 1 - m[0][0] - m[1][1] + m[2][2]],
    ]
    # row k is the quaternion times four times its component k: the longest row has no cancellation
    table = torch.stack([torch.stack(row, -1) for row in rows], -2)  # (..., 4, 4)
    best = table.detach().diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = table.gather(-2, best[..., None, None].expand(*best.shape, 1, 4)).squeeze(-2)
    unit = row / row.norm(dim=-1, keepdim=True)
    unit = torch.where(unit[..., :1] < 0, -unit, unit)
    return unit[..., 0], unit[..., 1:]


def _cross_matrix(vector: Tensor) -> Tensor:
    """Matrix of the cross product with a vector, ``(..., 3, 3)``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [(zero, -z, y), (z, zero, -x), (-y, x, zero)]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def random_rotation(shape: tuple[int, ...], n_dims: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw rotations uniformly, ``(*shape, d, d)``; in three dimensions from normal quaternions (Shoemake 1992)."""
    if n_dims == 2:
        return rotation_exp(math.pi * (2 * torch.rand(*shape, 1, generator=generator) - 1))
    quaternion = torch.randn(*shape, 4, generator=generator)
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
