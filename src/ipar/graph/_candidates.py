"""Candidate neighbours by embedding distance."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ROWS = 256  # cells whose neighbours are looked for at once


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


def thinned_candidates(h: Tensor, n_neighbors: int, n_context: int, generator: torch.Generator) -> Tensor:
    """Cosine nearest neighbours of every cell within a random subset of a large set, another one for every cell.

    A network trained on small sets has seen candidates that are a large share of a set. In a large set its nearest cells
    are far nearer; among a random subset of the trained size they are as far as they were.

    Parameters
    ----------
    h
        Embeddings, ``(n, d)``.
    n_neighbors
        Neighbours a cell.
    n_context
        Cells of the subset, itself excluded; at most ``n - 1``.
    generator
        Draws the subsets.

    Returns
    -------
    Tensor
        Indices, ``(n, min(n_neighbors, n_context, n - 1))``, nearest first; time and memory are linear in cells.
    """
    n = len(h)
    unit = functional.normalize(h, dim=-1)
    size = min(n_context, n - 1)
    found = []
    for rows in torch.split(torch.arange(n, device=h.device), _ROWS):
        # distinct shifts of every row's own index are distinct cells, and never the cell itself
        shifts = 1 + torch.randperm(n - 1, generator=generator)[:size].to(h.device)
        context = (rows[:, None] + shifts) % n
        similarity = (unit[context] @ unit[rows][:, :, None]).squeeze(-1)
        found.append(context.gather(1, similarity.topk(min(n_neighbors, size), dim=1).indices))
    return torch.cat(found)
