"""What the network of IGA reads of poses and time, as numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ipar.geometry import OffsetGaussianRigid, pack_symmetric

N_FREQUENCIES = 8


def n_own_features(d: int) -> int:
    return 3 * d + d + d * (d * (d + 1) // 2)


def own_features(rigid: OffsetGaussianRigid, anchor: Tensor) -> Tensor:
    """What a cell knows of its own geometry, the same whatever the signs of its axes, ``(B, n, f)``."""
    axes = rigid.rotation.mT  # rows are axes
    planes = pack_symmetric(axes[..., :, None] * axes[..., None, :]).flatten(-2)
    parts = [rigid.translation, anchor, rigid.offset(), rigid.scaling_log, planes]
    return torch.cat(parts, dim=-1)


def time_features(time: Tensor) -> Tensor:
    frequencies = 2.0 ** torch.arange(N_FREQUENCIES, dtype=time.dtype, device=time.device)
    angles = 0.5 * math.pi * time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
