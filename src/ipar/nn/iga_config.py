"""The shape of the IGA network, and the units of what it denoises."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.overlap import pack_symmetric

AttentionGeometry = Literal["current", "clean", "curriculum"]


@dataclass(frozen=True)
class EllipseUnits:
    """Centre and spread of the training cells' Gaussians, in RMS radii of the layout: the units of their noise.

    Attributes
    ----------
    scaling_centre, scaling_spread
        Mean and standard deviation of the log-scales.
    offset
        Root mean square of an entry of the local mean.
    """

    scaling_centre: float = -2.0
    scaling_spread: float = 0.3
    offset: float = 0.05


@dataclass(frozen=True)
class IGAConfig:
    """Shape of an :class:`~ipar.nn.IGANet`.

    Attributes
    ----------
    n_dims
        Dimensions of the layout, 2 or 3.
    d_input, d_state
        Width of the embedding and of the node states.
    n_heads, d_head
        Attention heads and their width: smaller than IPA-Lite's, since a sample takes some fifty passes.
    n_blocks
        Blocks of attention and update, each with its own weights.
    beta
        Weight of the gate.
    corrupt_gaussians
        Denoise poses and Gaussians (7 or 12 numbers a cell); otherwise poses alone (3 or 6), with round Gaussians of the
        training cells' mean scale for attention.
    attention_geometry
        Whose Gaussians attention reads in training: the denoised ones (``"current"``), the true ones (``"clean"``), or a
        blend that goes from the true to the denoised ones (``"curriculum"``). Without true ones, as at inference, it is
        the denoised ones.
    scale_min, scale_max
        Limits of standard deviations in the overlap, in RMS radii. The lower one is a third of the distance between the
        nearest of 256 cells: far smaller Gaussians would never overlap, and their energies would drown everything else.
        The upper one is far beyond the tissue.
    units
        Units of the Gaussians.

    Raises
    ------
    ValueError
        If a setting is not known or not possible.
    """

    n_dims: int = 2
    d_input: int = 128
    d_state: int = 64
    n_heads: int = 4
    d_head: int = 16
    n_blocks: int = 3
    beta: float = 2.0
    corrupt_gaussians: bool = True
    attention_geometry: AttentionGeometry = "curriculum"
    scale_min: float = 0.05
    scale_max: float = 10.0
    units: EllipseUnits = field(default_factory=EllipseUnits)

    def __post_init__(self) -> None:
        if self.n_dims not in (2, 3):
            msg = f"n_dims must be 2 or 3, found {self.n_dims}."
            raise ValueError(msg)
        if self.attention_geometry not in get_args(AttentionGeometry):
            msg = f"attention_geometry must be one of {get_args(AttentionGeometry)}, found {self.attention_geometry!r}."
            raise ValueError(msg)
        if self.n_blocks < 1 or not 0 < self.scale_min < self.scale_max:
            msg = (
                "n_blocks must be at least 1 and 0 < scale_min < scale_max, found "
                f"n_blocks={self.n_blocks}, scale_min={self.scale_min}, scale_max={self.scale_max}."
            )
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IGAConfig:
        """The config of :meth:`to_dict`."""
        return cls(**{**values, "units": EllipseUnits(**values["units"])})


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
