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


def procrustes_rotation(source: Tensor, target: Tensor) -> Tensor:
    r"""Rotation or reflection ``(..., d, d)`` that best maps centred points onto others: that of :func:`procrustes_transform`.

    In two dimensions in closed form, without a singular value decomposition, for which the host would wait for the device.
    With :math:`M = X^\top Y`, the best rotation has the angle :math:`\mathrm{atan2}(M_{12} - M_{21}, M_{11} + M_{22})`, the
    best reflection that of :math:`(M_{12} + M_{21}, M_{11} - M_{22})`. The longer of the two vectors wins.
    """
    source, target = source - source.mean(-2, keepdim=True), target - target.mean(-2, keepdim=True)
    product = source.mT @ target
    if source.shape[-1] != 2:
        left, _, right = torch.linalg.svd(product)
        found: Tensor = left @ right
        return found
    (a, b), (c, d) = (row.unbind(-1) for row in product.unbind(-2))
    turn, mirror = torch.stack([a + d, b - c], -1), torch.stack([a - d, b + c], -1)
    mirrored = mirror.norm(dim=-1) > turn.norm(dim=-1)
    best = torch.where(mirrored[..., None], mirror, turn)
    length = best.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, best / length, best.new_ones(()) * 0.5**0.5)
    cos, sin = unit.unbind(-1)
    sign = torch.where(mirrored, 1.0, -1.0)
    return torch.stack([torch.stack([cos, sin], -1), torch.stack([sign * sin, -sign * cos], -1)], -2)


def apply_similarity(x: Tensor, transform: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Apply a transform from :func:`procrustes_transform` to points ``(..., n, d)``."""
    check("x", x, Tensor)
    source_mean, rotation, scale, target_mean = transform
    return (x - source_mean) @ rotation * scale + target_mean
