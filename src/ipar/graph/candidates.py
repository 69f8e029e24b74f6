"""Candidate neighbours by embedding distance."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from ipar.graph.nearest import Nearest


def cosine_candidates(h: Tensor, n_neighbors: int) -> Tensor:
    """Nearest neighbours by cosine distance within small sets, by exact search.

    Parameters
    ----------
    h
        Embeddings, ``(..., n, d)``.
    n_neighbors
        Neighbours per cell, without the cell itself.

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
    """:func:`cosine_candidates` as a mask, bool ``(..., n, n)``, true where j is a candidate of i."""
    mask = torch.zeros(*h.shape[:-1], h.shape[-2], dtype=torch.bool, device=h.device)
    return mask.scatter_(-1, cosine_candidates(h, n_neighbors), value=True)


def thinned_candidates(h: Tensor, n_neighbors: int, n_context: int, generator: torch.Generator) -> Tensor:
    """Nearest neighbours of each cell by cosine distance within a random subset of the cells.

    In a large set, nearest cells are much closer than in the small sets of training. Within a random subset of the size of
    those sets, they are as far as in training. Blocks of random cells share a subset, so that time is linear in cells.

    Subsets have ``n_context`` cells besides the cell itself. Returns indices ``(n, min(n_neighbors, n_context, n - 1))``,
    nearest first.
    """
    n, unit = len(h), functional.normalize(h, dim=-1)
    size = min(n_context + 1, n)
    shuffled, contexts = (torch.randperm(n, generator=generator).to(h.device) for _ in range(2))
    found = torch.empty(n, min(n_neighbors, size - 1), dtype=torch.int64, device=h.device)
    steps = torch.arange(size, device=h.device)
    for number, rows in enumerate(torch.split(shuffled, 256)):
        context = contexts[(number * size + steps) % n]
        similarity = (unit[rows] @ unit[context].mT).masked_fill(rows[:, None] == context, -float("inf"))
        found[rows] = context[similarity.topk(found.shape[1], dim=1).indices]
    return found


def fuzzy_edges(near: Nearest) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    r"""UMAP's graph of one slide: nearest neighbours have weight 1, farther ones less.

    .. math:: w_{ij} = v_{ij} + v_{ji} - v_{ij} v_{ji}, \quad
              v_{ij} = \exp\big(-\max(0, d_{ij} - \rho_i) / \sigma_i\big), \quad j \in N_i

    where :math:`\rho_i` is the distance of the nearest neighbour and :math:`\sigma_i` makes the weights of a cell sum to
    :math:`\log_2 (k + 1)`. Each cell has an edge, and all cells have about equally many.

    Parameters
    ----------
    near
        The k nearest of every cell.

    Returns
    -------
    tuple
        Edges ``(2, m)`` with ``i < j``, each pair once, and their weights ``(m,)``.

    References
    ----------
    McInnes et al., UMAP, arXiv:1802.03426 (2018), section 3.1.
    """
    n, k = near.index.shape
    beyond = (near.distance - near.distance.min(axis=1, keepdims=True)).astype(np.float64)
    weights = np.exp(-beyond / _bandwidths(beyond, near.distance, np.log2(k + 1))).astype(np.float32)
    one_way = sparse.csr_matrix((weights.ravel(), near.index.ravel(), k * np.arange(n + 1)), shape=(n, n))
    both = one_way + one_way.T - one_way.multiply(one_way.T)
    upper = sparse.triu(both, k=1).tocoo()
    return np.stack([upper.row, upper.col]).astype(np.int64), upper.data


def _bandwidths(
    beyond: NDArray[np.float64], distance: NDArray[np.float32], total: float, n_steps: int = 40
) -> NDArray[np.float64]:
    """σ of every cell by bisection, ``(n, 1)``, at least a thousandth of its mean distance."""
    least = np.maximum(1e-3 * distance.mean(axis=1, keepdims=True), 1e-12).astype(np.float64)
    low, high = least.copy(), np.maximum(1e3 * beyond.max(axis=1, keepdims=True), least)
    for _ in range(n_steps):
        middle = np.sqrt(low * high)
        enough = np.exp(-beyond / middle).sum(axis=1, keepdims=True) > total
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    bandwidths: NDArray[np.float64] = high
    return bandwidths
