"""Flow matching on poses: corruption and the losses of the vector field.

A layout has no gauge. Every clean layout is turned (or mirrored) onto its noise by Procrustes alignment, and every
ellipsoid's axes get the signs nearest to those of its noise: of all pairs of noise and clean state that mean the same,
the nearest is learned from. Paths are then short and straight, and the noise alone decides the orientation of a sample;
since noise has no preferred direction, samples have none (Klein et al., 2023, Equivariant flow matching).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ipar._options import Checked
from ipar.geometry import OffsetGaussianRigid, procrustes_rotation
from ipar.geometry.rotation import rotation_log
from ipar.geometry.targets import squared_distances
from ipar.nn import IGAConfig
from ipar.nn.iga import IGAOutput


@dataclass(frozen=True)
class FlowWeights(Checked):
    """Weights of the terms of the loss; ``ellipsoid`` is that of local mean and scaling, 0.25 where they dominate."""

    translation: float = 1.0
    rotation: float = 1.0
    auxiliary: float = 1.0
    ellipsoid: float = 1.0
    gate: float = 0.05


@dataclass(frozen=True)
class FlowLosses:
    """Terms of the loss, each the mean over cells and sets; velocities in RMS radii, radians and units of the noise.

    Attributes
    ----------
    translation, rotation
        Squared errors of the velocities of position and orientation.
    local_mean, scaling
        The same of the Gaussian's offset and log-scales, zero where they are not denoised.
    auxiliary
        Squared error of distances between cells in the predicted clean layout, at times above ¼, and of the guess from
        embeddings alone.
    """

    translation: Tensor
    rotation: Tensor
    local_mean: Tensor
    scaling: Tensor
    auxiliary: Tensor

    def as_dict(self) -> dict[str, Tensor]:
        """Terms by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def total(self, weights: FlowWeights) -> Tensor:
        """Weighted sum."""
        pose = weights.translation * self.translation + weights.rotation * self.rotation
        gaussian = weights.ellipsoid * (self.local_mean + self.scaling)
        return pose + gaussian + weights.auxiliary * self.auxiliary


def couple(clean: OffsetGaussianRigid, noise: OffsetGaussianRigid) -> OffsetGaussianRigid:
    """Of all states that mean the same as ``clean``, the one nearest to ``noise``.

    Layouts are turned and mirrored as a whole, ``(B, n)``; axes of every ellipsoid change signs. Padding at the origin
    plays no part.
    """
    # rows times the rotation; columns times its transpose
    turn = procrustes_rotation(clean.translation, noise.translation).mT
    return clean.move(turn[:, None]).nearest_axes(noise)


def corrupt(
    clean: OffsetGaussianRigid, noise: OffsetGaussianRigid, time: Tensor, config: IGAConfig
) -> tuple[OffsetGaussianRigid, OffsetGaussianRigid]:
    """State at a time ``(B,)`` between noise (0) and clean (1), and the clean state it leads to.

    Gaussians that the config does not corrupt stay those of the noise.
    """
    target = couple(clean, noise)
    state = noise.interpolate(target, time[:, None])
    return (state if config.corrupt_gaussians else state.with_gaussian(noise)), target


def flow_losses(
    out: IGAOutput,
    state: OffsetGaussianRigid,
    target: OffsetGaussianRigid,
    time: Tensor,
    mask: Tensor,
    config: IGAConfig,
    *,
    rest_min: float = 0.1,
    auxiliary_from: float = 0.25,
) -> FlowLosses:
    """Terms of the loss of a predicted clean state, ``(B, n)``.

    Parameters
    ----------
    out, state, target, time, mask, config
        Prediction from the corrupted ``state`` at ``time`` ``(B,)``; ``mask`` tells which cells are real, ``(B, n)``.
    rest_min
        Least time that velocities are divided by.
    auxiliary_from
        Time from which the auxiliary term counts. Before, distances are a mean over everything that the noise may become.
    """
    found = out.rigid
    per_time = 1 / (1 - time).clamp_min(rest_min).square()
    turned, wanted = (rotation_log(state.rotation.mT @ end.rotation) for end in (found, target))

    def velocity_error(gap: Tensor) -> Tensor:
        return (cell_mean(gap.square().sum(-1), mask) * per_time).mean()

    zero, d, units = time.new_zeros(()), config.n_dims, config.units
    denoised = config.corrupt_gaussians
    local_mean, scaling = found.local_mean - target.local_mean, found.scaling_log - target.scaling_log
    return FlowLosses(
        translation=velocity_error(found.translation - target.translation),
        rotation=velocity_error(turned - wanted),
        local_mean=velocity_error(local_mean / units.offset) / d if denoised else zero,
        scaling=velocity_error(scaling / units.scaling_spread) / d if denoised else zero,
        auxiliary=_distance_error(found.translation, target.translation, time >= auxiliary_from, mask)
        + anchor_error(out.anchor, target.translation, mask),
    )


def cell_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real cells of every set, ``(B, n)`` → ``(B,)``."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp_min(1)


def _distance_error(found: Tensor, target: Tensor, counts: Tensor, mask: Tensor) -> Tensor:
    # squares are floored, not roots: the root's gradient at zero is infinite
    near, true = (squared_distances(x).clamp_min(1e-8).sqrt() for x in (found, target))
    pairs = (mask[:, :, None] & mask[:, None]).flatten(1)
    return (cell_mean((near - true).square().flatten(1), pairs) * counts).mean()


def anchor_error(anchor: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Squared error of the guess from embeddings alone, turned onto the truth."""
    with torch.no_grad():
        turn = procrustes_rotation(anchor, target)
    return cell_mean((anchor @ turn - target).square().sum(-1), mask).mean()
