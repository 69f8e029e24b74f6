"""Rigid poses that carry a Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ipar.geometry.rotation import n_angles, rotation_exp, rotation_log

# rotations that map the axes of an ellipsoid onto themselves: by π in the plane, by π about each axis in space
_AXIS_SIGNS = {2: ((1, 1), (-1, -1)), 3: ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))}


@dataclass(frozen=True)
class OffsetGaussianRigid:
    r"""Rigid poses, each with a Gaussian whose mean is offset from the origin of the pose.

    .. math:: \mu = t + R\,m, \qquad \Sigma = R\,\mathrm{diag}(e^{2\sigma})\,R^\top

    This takes 7 numbers per cell in two dimensions and 12 in three. All methods are differentiable and accept any
    leading shape.

    Attributes
    ----------
    rotation
        Rotation R, ``(..., d, d)``. Its columns are the axes of the Gaussian.
    translation
        Origin t, ``(..., d)``.
    scaling_log
        Logarithms σ of the standard deviations along the axes, ``(..., d)``.
    local_mean
        Mean m in the frame of the pose, ``(..., d)``.
    """

    rotation: Tensor
    translation: Tensor
    scaling_log: Tensor
    local_mean: Tensor

    @classmethod
    def identity(cls, shape: tuple[int, ...], n_dims: int) -> OffsetGaussianRigid:
        """Poses at the origin with standard normal Gaussians."""
        zero = torch.zeros(*shape, n_dims)
        return cls(torch.eye(n_dims).expand(*shape, n_dims, n_dims), zero, zero, zero)

    @classmethod
    def from_vector(cls, vector: Tensor) -> OffsetGaussianRigid:
        """Poses from ``(..., 7)`` or ``(..., 12)`` numbers, as :meth:`to_vector` returns them."""
        dims = {7: 2, 12: 3}
        if vector.shape[-1] not in dims:
            msg = f"A pose has 7 numbers in two dimensions or 12 in three, found {vector.shape[-1]}."
            raise ValueError(msg)
        d = dims[vector.shape[-1]]
        turn, translation, scaling_log, local_mean = torch.split(vector, [n_angles(d), d, d, d], dim=-1)
        return cls(rotation_exp(turn), translation, scaling_log, local_mean)

    @property
    def n_dims(self) -> int:
        """Number of dimensions d, 2 or 3."""
        return self.translation.shape[-1]

    @property
    def shape(self) -> torch.Size:
        """Leading shape."""
        return self.translation.shape[:-1]

    def map(self, function: Callable[[Tensor], Tensor]) -> OffsetGaussianRigid:
        """Apply a function to every tensor, for example to index it or to move it to a device."""
        return OffsetGaussianRigid(*(function(getattr(self, field.name)) for field in fields(self)))

    def to_vector(self) -> Tensor:
        """Concatenate rotation vector, translation, log-scales and local mean, ``(..., 7)`` or ``(..., 12)``."""
        return torch.cat([rotation_log(self.rotation), self.translation, self.scaling_log, self.local_mean], dim=-1)

    def apply(self, points: Tensor) -> Tensor:
        """Map points from the local to the global frame, R·x + t, ``(..., d)``."""
        return (self.rotation @ points[..., None]).squeeze(-1) + self.translation

    def compose(self, other: OffsetGaussianRigid) -> OffsetGaussianRigid:
        """Compose poses, (R₁R₂, R₁t₂ + t₁). The result has the Gaussian of ``other``."""
        return OffsetGaussianRigid(
            self.rotation @ other.rotation, self.apply(other.translation), other.scaling_log, other.local_mean
        )

    def inverse(self) -> OffsetGaussianRigid:
        """Inverse poses (Rᵀ, −Rᵀt). The Gaussian is given in the frame of the pose and does not change."""
        back = self.rotation.mT
        moved = -(back @ self.translation[..., None]).squeeze(-1)
        return OffsetGaussianRigid(back, moved, self.scaling_log, self.local_mean)

    def move(self, turn: Tensor, shift: Tensor | None = None) -> OffsetGaussianRigid:
        """Rotate or reflect by Q ``(..., d, d)`` and shift by b ``(..., d)``: means become Q·μ + b, covariances Q·Σ·Qᵀ.

        A reflection turns a right-handed frame into a left-handed one. The last axis and its entry of the local mean
        then change sign, which leaves the Gaussian unchanged.
        """
        rotation = turn @ self.rotation
        translation = (turn @ self.translation[..., None]).squeeze(-1)
        sign = torch.ones_like(self.local_mean)
        sign[..., -1] = torch.linalg.det(turn).sign().expand(self.shape)
        return OffsetGaussianRigid(
            rotation * sign[..., None, :],
            translation if shift is None else translation + shift,
            self.scaling_log,
            self.local_mean * sign,
        )

    def nearest_axes(self, reference: OffsetGaussianRigid) -> OffsetGaussianRigid:
        """Choose the signs of the axes so that rotations are nearest to those of ``reference``.

        The axes of an ellipsoid have no sign: 2 rotations in the plane and 4 in space describe the same Gaussian.
        """
        signs = torch.tensor(_AXIS_SIGNS[self.n_dims], dtype=self.translation.dtype)
        signs = signs.to(self.translation.device, non_blocking=True)
        agreement = (reference.rotation.mT @ self.rotation).diagonal(dim1=-2, dim2=-1)
        chosen = signs[(agreement @ signs.T).argmax(-1)]
        return OffsetGaussianRigid(
            self.rotation * chosen[..., None, :], self.translation, self.scaling_log, self.local_mean * chosen
        )

    def interpolate(self, end: OffsetGaussianRigid, share: Tensor) -> OffsetGaussianRigid:
        """Interpolate towards ``end``: rotations along the geodesic, everything else linearly.

        ``share`` is the share of the way, 0 to 1, and is broadcast against the leading shape.
        """
        weight = share[..., None]
        turn = rotation_exp(weight * rotation_log(self.rotation.mT @ end.rotation))
        return OffsetGaussianRigid(
            self.rotation @ turn,
            self.translation + weight * (end.translation - self.translation),
            self.scaling_log + weight * (end.scaling_log - self.scaling_log),
            self.local_mean + weight * (end.local_mean - self.local_mean),
        )

    def with_gaussian(self, other: OffsetGaussianRigid, share: Tensor | None = None) -> OffsetGaussianRigid:
        """These poses with the Gaussians of ``other``, taken over in the frame of the pose.

        Parameters
        ----------
        other
            Poses that provide log-scales and local means.
        share
            Share of the way towards them, 0 to 1, broadcast against the leading shape. 1 by default.
        """
        scaling_log, local_mean = other.scaling_log, other.local_mean
        if share is not None:
            scaling_log = torch.lerp(self.scaling_log, scaling_log, share[..., None])
            local_mean = torch.lerp(self.local_mean, local_mean, share[..., None])
        return OffsetGaussianRigid(self.rotation, self.translation, scaling_log, local_mean)

    def offset(self) -> Tensor:
        """Offset R·m of the mean from the origin in the global frame, ``(..., d)``. Signs of axes do not matter."""
        return (self.rotation @ self.local_mean[..., None]).squeeze(-1)

    def to_global(self, *, scale_min: float = 0.0, scale_max: float = float("inf")) -> tuple[Tensor, Tensor]:
        """Mean ``(..., d)`` and covariance ``(..., d, d)`` in the global frame, with limits of the standard deviations."""
        scaled = self.rotation * self.scaling_log.exp().clamp(scale_min, scale_max)[..., None, :]
        return self.translation + self.offset(), scaled @ scaled.mT
