"""Candidate neighbours by embedding distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cosine_candidates(h: Tensor, n_neighbors: int) -> Tensor:
    """Exact cosine nearest neighbours within small sets.

    Parameters
    ----------
    h
        Embeddings, ``(..., n, d)``.
    n_neighbors
        Neighbours a cell, itself excluded; at most ``n - 1`` are given.

    Returns
    -------
    Tensor
        Indices, ``(..., n, min(n_neighbors, n - 1))``, nearest first.
    """
    unit = functional.normalize(h, dim=-1)
    similarity = unit @ unit.mT
    similarity.diagonal(dim1=-2, dim2=-1).fill_(-float("inf"))
    return similarity.topk(min(n_neighbors, h.shape[-2] - 1), dim=-1).indices


def candidate_mask(h: Tensor, n_neighbors: int) -> Tensor:
    """The same as a mask, bool ``(..., n, n)``, true where j is a candidate of i."""
    mask = torch.zeros(*h.shape[:-1], h.shape[-2], dtype=torch.bool, device=h.device)
    return mask.scatter_(-1, cosine_candidates(h, n_neighbors), value=True)
