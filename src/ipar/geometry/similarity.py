"""Gauge fixing: the frame in which layouts are compared."""

from __future__ import annotations

import torch
from torch import Tensor

from ipar._options import check


def gauge_fix(x: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Centre a layout and scale it to unit RMS radius.

    .. math:: x_i \leftarrow (x_i - \bar x) \Big/ \sqrt{\tfrac1n \sum_j \lVert x_j - \bar x \rVert^2}

    Parameters
    ----------
    x
        Coordinates, shape ``(..., n, d)``.
    mask
        True for real cells, False for padding, shape ``(..., n)``. By default all cells are real.

    Returns
    -------
    Tensor
        Layout with zero mean and unit RMS radius, shape ``(..., n, d)``. Padding and coincident points are at zero.
    """
    check("x", x, Tensor)
    if mask is None:
        mean = x.mean(dim=-2, keepdim=True)
        centred = x - mean
        mean_square = centred.square().sum(-1).mean(-1)
    else:
        weight = mask.to(x.dtype)
        count = weight.sum(-1).clamp_min(1.0)
        mean = (x * weight[..., None]).sum(-2, keepdim=True) / count[..., None, None]
        centred = (x - mean) * weight[..., None]
        mean_square = centred.square().sum((-1, -2)) / count
    # an extent within the rounding error of the mean is zero: coincident points must not be scaled up to noise
    rounding = (4 * torch.finfo(x.dtype).eps) ** 2 * mean.square().sum((-1, -2))
    # smaller radii would overflow
    fixed = centred / mean_square.clamp_min(1e-8**2).sqrt()[..., None, None]
    return torch.where((mean_square > rounding)[..., None, None], fixed, torch.zeros_like(fixed))


def procrustes_transform(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Similarity transform (rotation or reflection, scale, shift) that best maps ``source`` onto ``target``.

    It minimises :math:`\lVert s\,(X - \bar x) R + \bar y - Y \rVert_F` (Schönemann 1966). Reflections are allowed because
    sections have no handedness.

    Parameters
    ----------
    source, target
        Corresponding points, ``(..., m, d)``.

    Returns
    -------
    tuple of Tensor
        Centre of the source ``(..., 1, d)``, rotation ``(..., d, d)``, scale ``(..., 1, 1)`` and centre of the
        target ``(..., 1, d)``, as :func:`apply_similarity` takes them.
    """
    check("source", source, Tensor)
    check("target", target, Tensor)
    source_mean, target_mean = source.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    source, target = source - source_mean, target - target_mean
    left, singular, right = torch.linalg.svd(source.mT @ target)
    norm = source.square().sum((-1, -2))
    ratio = singular.sum(-1) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    scale = torch.where(norm > 0, ratio, torch.ones_like(norm))
    return source_mean, left @ right, scale[..., None, None], target_mean


def apply_similarity(x: Tensor, transform: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Apply a transform from :func:`procrustes_transform` to points ``(..., n, d)``."""
    check("x", x, Tensor)
    source_mean, rotation, scale, target_mean = transform
    return (x - source_mean) @ rotation * scale + target_mean
