"""The shape of the IGA network, and the units of what it denoises."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from ipar._options import Bounds, Checked, Count, Depth, Steps, Weight
from ipar.geometry import OffsetGaussianRigid
from ipar.geometry.overlap import pack_symmetric

LogScale = Annotated[float, Bounds(-50, 50)]
AttentionGeometry = Literal["current", "clean", "curriculum"]


@dataclass(frozen=True)
class EllipseUnits(Checked):
    """Centre and spread of the training cells' Gaussians, in RMS radii of the layout.

    Attributes
    ----------
    scaling_centre, scaling_spread
        Mean and standard deviation of the log-scales.
    offset
        Root mean square of an entry of the local mean.
    """

    scaling_centre: LogScale = -2.0
    scaling_spread: Weight = 0.3
    offset: Weight = 0.05


@dataclass(frozen=True)
class IGAConfig(Checked):
    """Shape of an :class:`~ipar.nn.IGANet`.

    Attributes
    ----------
    n_dims
        Dimensions of the layout, 2 or 3.
    d_input, d_state
        Width of the embedding and of the node states.
    n_heads, d_head
        Attention heads and their width.
    n_blocks
        Blocks of attention and update, each with its own weights.
    beta
        Weight of the gate in the logits.
    pair_bias
        Add a bias per head from an edge representation, which a network reads off the embeddings of both cells.
    corrupt_gaussians
        Denoise poses and Gaussians. Otherwise only poses, and attention reads round Gaussians of the mean scale.
    attention_geometry
        Gaussians that attention reads in training: the denoised ones (``"current"``), the true ones (``"clean"``), or a
        blend from true to denoised (``"curriculum"``). Prediction reads the denoised ones.
    scale_min, scale_max
        Limits of standard deviations in the overlap, in RMS radii.
    units
        Units of the noise on Gaussians.

    Raises
    ------
    ValueError
        If a setting has no such value.

    Notes
    -----
    `scale_min` is a third of the distance between neighbours among 256 cells. Much smaller Gaussians never overlap, and
    their energies hide every other term.
    """

    n_frequencies: ClassVar[int] = 8
    """Frequencies by which the network reads the time."""

    d_pair: ClassVar[int] = 32
    """Width of the edge representation that `pair_bias` reads."""

    overlap_scale: ClassVar[float] = 0.5
    """Factor of the overlap energy in the logits: half of it is minus the log of the integral of two Gaussians' product."""

    n_dims: int = 2
    d_input: Count = 128
    d_state: Count = 64
    n_heads: Steps = 4
    d_head: Count = 16
    n_blocks: Depth = 3
    beta: Weight = 2.0
    pair_bias: bool = False
    corrupt_gaussians: bool = True
    attention_geometry: AttentionGeometry = "curriculum"
    scale_min: Weight = 0.05
    scale_max: Weight = 10.0
    units: EllipseUnits = field(default_factory=EllipseUnits)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_dims not in (2, 3):
            msg = f"n_dims must be 2 or 3, found {self.n_dims}."
            raise ValueError(msg)
        if self.n_blocks < 1 or not 0 < self.scale_min < self.scale_max:
            msg = (
                "n_blocks must be at least 1 and 0 < scale_min < scale_max, found "
                f"n_blocks={self.n_blocks}, scale_min={self.scale_min}, scale_max={self.scale_max}."
            )
            raise ValueError(msg)

    def to_dict(self) -> dict[str, Any]:
        """Settings as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IGAConfig:
        """The config that :meth:`to_dict` describes."""
        return cls(**{**values, "units": EllipseUnits(**values["units"])})


def n_own_features(d: int) -> int:
    """Number of features that :func:`own_features` gives in d dimensions."""
    return 4 * d + d * (d * (d + 1) // 2)


def own_features(rigid: OffsetGaussianRigid, anchor: Tensor) -> Tensor:
    """Features of a cell's own geometry that do not depend on the signs of its axes, ``(B, n, f)``."""
    axes = rigid.rotation.mT  # rows are axes
    planes = pack_symmetric(axes[..., :, None] * axes[..., None, :]).flatten(-2)
    parts = [rigid.translation, anchor, rigid.offset(), rigid.scaling_log, planes]
    return torch.cat(parts, dim=-1)


def time_features(time: Tensor, n_frequencies: int) -> Tensor:
    """Sines and cosines of the time, ``(B, 2 · n_frequencies)``."""
    frequencies = 2.0 ** torch.arange(n_frequencies, dtype=time.dtype, device=time.device)
    angles = 0.5 * math.pi * time[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
