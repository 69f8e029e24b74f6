"""Gauge fixing: the one frame in which every layout is compared."""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-8


def gauge_fix(x: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Centre a layout and divide it by its RMS radius.

    .. math:: x_i \leftarrow (x_i - \bar x) \Big/ \sqrt{\tfrac1n \sum_j \lVert x_j - \bar x \rVert^2}

    Parameters
    ----------
    x
        Coordinates, shape ``(..., n, d)``.
    mask
        Which cells are real, shape ``(..., n)``; padding is neither counted nor moved off zero. All, if None.

    Returns
    -------
    Tensor
        The layout with zero mean and unit RMS radius, shape ``(..., n, d)``; all zeros if the points coincide.
    """
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
    # an extent within the rounding of the mean is none: coincident points far from the origin must not be blown up
    rounding = (4 * torch.finfo(x.dtype).eps) ** 2 * mean.square().sum((-1, -2))
    fixed = centred / mean_square.clamp_min(_EPS**2).sqrt()[..., None, None]
    return torch.where((mean_square > rounding)[..., None, None], fixed, torch.zeros_like(fixed))
