"""Ellipses and ellipsoids of cells: tables from outlines and moments, and poses from tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from ipar.geometry.rigid import OffsetGaussianRigid
from ipar.geometry.rotation import n_angles, rotation_exp, rotation_log

Floats = NDArray[np.float64]


def ring_moments(ring: Floats) -> tuple[float, Floats, Floats]:
    """Area, first moments ``(2,)`` and second moments ``(2, 2)`` about the origin of the inside of a ring.

    The ring consists of vertices ``(v, 2)`` in either direction, open or closed. Integrals over the area are computed
    along the ring by Green's theorem.
    """
    x, y = ring.T
    x2, y2 = np.roll(ring, -1, axis=0).T
    cross = x * y2 - x2 * y
    area = cross.sum() / 2
    first = np.array([((x + x2) * cross).sum(), ((y + y2) * cross).sum()]) / 6
    xx = ((x * x + x * x2 + x2 * x2) * cross).sum() / 12
    yy = ((y * y + y * y2 + y2 * y2) * cross).sum() / 12
    xy = ((x * y2 + 2 * x * y + 2 * x2 * y2 + x2 * y) * cross).sum() / 24
    sign = -1.0 if area < 0 else 1.0
    return sign * area, sign * first, sign * np.array([[xx, xy], [xy, yy]])


def area_moments(parts: Iterable[tuple[Floats, float]]) -> tuple[Floats, Floats]:
    """Centroid ``(2,)`` and covariance ``(2, 2)`` of an area made of rings.

    Each ring ``(v, 2)`` has a sign: 1 for an outline, −1 for a hole. An area of zero raises ValueError.
    """
    rings = [(np.asarray(ring, dtype=np.float64), sign) for ring, sign in parts]
    origin = rings[0][0][0]  # moments about a distant origin lose all digits
    area, first, second = 0.0, np.zeros(2), np.zeros((2, 2))
    for ring, sign in rings:
        own = ring_moments(ring - origin)
        area, first, second = area + sign * own[0], first + sign * own[1], second + sign * own[2]
    if not area > 0:
        msg = "an outline has no area"
        raise ValueError(msg)
    centroid = first / area
    return centroid + origin, second / area - np.outer(centroid, centroid)


def ellipse_table(offset: Floats, covariance: Floats) -> Floats:
    """Table of ellipses ``(n, 5)`` or ``(n, 9)`` from offsets ``(n, d)`` and covariances ``(n, d, d)``.

    An offset is the centre minus the position of the cell. Columns are offset, standard deviations along the axes (longest
    first), and the angle in (−π/2, π/2] or, in 3D, the rotation vector of the axes.
    """
    values, vectors = np.linalg.eigh(covariance)
    deviations = np.sqrt(np.maximum(values[:, ::-1], 0.0))
    axes = vectors[:, :, ::-1].copy()
    axes[..., -1] *= np.sign(np.linalg.det(axes))[:, None]
    if offset.shape[1] == 3:
        return np.column_stack([offset, deviations, Rotation.from_matrix(axes).as_rotvec()])
    angle = np.arctan2(axes[:, 1, 0], axes[:, 0, 0])
    angle = np.where(angle > np.pi / 2, angle - np.pi, np.where(angle <= -np.pi / 2, angle + np.pi, angle))
    return np.column_stack([offset, deviations, angle])


def rigid_of_ellipses(coords: Tensor, ellipses: Tensor, radius: Tensor | float = 1.0) -> OffsetGaussianRigid:
    """Poses and Gaussians of cells, in units of ``radius``.

    Parameters
    ----------
    coords
        Positions in units of ``radius``, ``(..., d)``.
    ellipses
        Table of ellipses in the units of the tissue, ``(..., 5)`` or ``(..., 9)``.
    radius
        Unit of length, usually the RMS radius of the layout.

    Returns
    -------
    OffsetGaussianRigid
        One pose per cell.
    """
    d = coords.shape[-1]
    offset, deviation, turn = torch.split(ellipses, [d, d, n_angles(d)], dim=-1)
    rotation = rotation_exp(turn)
    local_mean = (rotation.mT @ offset[..., None]).squeeze(-1) / radius
    tiny = torch.finfo(deviation.dtype).tiny
    return OffsetGaussianRigid(rotation, coords, (deviation / radius).clamp_min(tiny).log(), local_mean)


def ellipses_of_rigid(rigid: OffsetGaussianRigid) -> Tensor:
    """Table of ellipses of poses, ``(..., 5)`` or ``(..., 9)``: the inverse of :func:`rigid_of_ellipses`."""
    return torch.cat([rigid.offset(), rigid.scaling_log.exp(), rotation_log(rigid.rotation)], dim=-1)
