"""The flow from noise to poses: its start, and its integration."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.rotation import random_rotation
from ipar.nn.iga import IGACondition, IGANet, centre
from ipar.nn.iga_config import IGAConfig


def noise_poses(
    shape: tuple[int, int], config: IGAConfig, generator: torch.Generator, mask: Tensor | None = None
) -> OffsetGaussianRigid:
    """Draw poses at time 0.

    Translations are normal and centred, with an expected RMS radius of 1, and rotations are uniform. Gaussians are normal
    in the units of the training cells, or all alike if the network does not denoise them. Cells outside the mask stay at the
    origin.
    """
    d, units = config.n_dims, config.units
    translation, local_mean, scaling = torch.randn(3, *shape, d, generator=generator).unbind(0)
    spread = units.scaling_spread if config.corrupt_gaussians else 0.0
    offset = units.offset if config.corrupt_gaussians else 0.0
    return OffsetGaussianRigid(
        random_rotation(shape, d, generator),
        centre(translation / d**0.5, mask),
        units.scaling_centre + spread * scaling,
        offset * local_mean,
    )


@torch.no_grad()
def follow_flow(
    net: IGANet,
    condition: IGACondition,
    start: OffsetGaussianRigid,
    n_steps: int,
    *,
    clean: OffsetGaussianRigid | None = None,
    callback: Callable[[], object] | None = None,
) -> OffsetGaussianRigid:
    r"""Integrate the flow from time 0 to 1 with Euler steps of equal length.

    The network predicts the clean end :math:`\hat x_1`. A step of length :math:`\Delta t` covers the share
    :math:`\Delta t / (1 - t)` of the way there, for rotations along the geodesic. It stays on the manifold. Attention reads
    the true Gaussians `clean` if they are known.
    """
    current, batch = start, start.shape[0]
    for step in range(n_steps):
        time = start.translation.new_full((batch,), step / n_steps)
        end = net.denoise(condition, current, time, clean=clean).rigid
        share = start.translation.new_full((batch, 1), 1 / (n_steps - step))
        current = current.interpolate(end, share)
        if callback is not None:
            callback()
    return current
