"""Batched similarity alignment of layouts."""

from __future__ import annotations

import torch
from torch import Tensor


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
    source_mean, target_mean = source.mean(-2, keepdim=True), target.mean(-2, keepdim=True)
    source, target = source - source_mean, target - target_mean
    left, singular, right = torch.linalg.svd(source.mT @ target)
    norm = source.square().sum((-1, -2))
    scale = torch.where(
        norm > 0, singular.sum(-1) / norm.clamp_min(torch.finfo(norm.dtype).tiny), torch.ones_like(norm)
    )
    return source_mean, left @ right, scale[..., None, None], target_mean


def apply_similarity(x: Tensor, transform: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Apply a transform from :func:`procrustes_transform` to points ``(..., n, d)``."""
    source_mean, rotation, scale, target_mean = transform
    return (x - source_mean) @ rotation * scale + target_mean
