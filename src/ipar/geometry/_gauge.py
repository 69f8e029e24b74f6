"""Gauge fixing: the frame in which layouts are compared."""

from __future__ import annotations

import torch
from torch import Tensor

_EPS = 1e-8


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
    fixed = centred / mean_square.clamp_min(_EPS**2).sqrt()[..., None, None]
    return torch.where((mean_square > rounding)[..., None, None], fixed, torch.zeros_like(fixed))
