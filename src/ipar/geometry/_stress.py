"""Multiscale edges and the scale-free logarithmic stress on them."""

from __future__ import annotations

import torch
from torch import Tensor

_N_RING = 10  # mid-range edges per cell: enough to tie neighbourhoods together, few compared with kNN edges
_DISTANCE_MIN = 1e-6


def landmark_count(n: int) -> int:
    """Number of landmarks of a set of ``n`` cells: ``max(8, n // 16)``, at most ``n``."""
    return min(max(8, n // 16), n)


def multiscale_edges(distance: Tensor, n_neighbors: int, generator: torch.Generator) -> Tensor:
    """Undirected edges at three scales: neighbours, a mid-range ring, and pairs of landmarks.

    Parameters
    ----------
    distance
        True distances, ``(n, n)``.
    n_neighbors
        Neighbours k per cell. The ring is drawn from ranks k + 1 to 3k.
    generator
        Random generator for ring edges and landmarks.

    Returns
    -------
    Tensor
        Edges ``(2, m)`` with ``i < j``, each pair once.
    """
    n = distance.shape[0]
    order = distance.clone().fill_diagonal_(-1.0).argsort(dim=1)[:, 1:]
    ring = order[:, n_neighbors : 3 * n_neighbors]
    n_ring = min(_N_RING, n_neighbors, ring.shape[1])
    pick = torch.rand(ring.shape, generator=generator).argsort(1)[:, :n_ring]
    landmarks = torch.randperm(n, generator=generator)[: landmark_count(n)]
    linked = torch.zeros(n, n, dtype=torch.bool)
    linked.scatter_(1, order[:, :n_neighbors], value=True)
    if n_ring:
        linked.scatter_(1, ring.gather(1, pick), value=True)
    linked[landmarks[:, None], landmarks] = True
    return (linked | linked.T).triu(1).nonzero().T


def log_stress(log_predicted: Tensor, log_true: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Scale-free stress, :math:`\mathrm{mean}_e (\log d_{pred} + \alpha - \log d_{true})^2` with the best α.

    The best :math:`\alpha` is :math:`\mathrm{mean}_e(\log d_{true} - \log d_{pred})`, so that a uniform scale costs nothing.

    Parameters
    ----------
    log_predicted, log_true
        Log distances of the same edges, ``(..., m)``.
    mask
        True for real edges, False for padding, ``(..., m)``. By default all edges are real.

    Returns
    -------
    Tensor
        One value per set, ``(...)``.
    """
    residual = log_predicted - log_true
    if mask is None:
        return (residual - residual.mean(-1, keepdim=True)).square().mean(-1)
    weight = mask.to(residual.dtype)
    count = weight.sum(-1).clamp_min(1.0)
    alpha = (residual * weight).sum(-1) / count
    return ((residual - alpha[..., None]).square() * weight).sum(-1) / count


def log_edge_distance(x: Tensor, edges: Tensor) -> Tensor:
    """Log distances along edges.

    Parameters
    ----------
    x
        Layouts, ``(B, n, 2)``.
    edges
        Pairs of cells, ``(B, 2, m)``.

    Returns
    -------
    Tensor
        Log distances, ``(B, m)``.
    """
    take = edges[..., None].expand(*edges.shape, x.shape[-1])
    start = x.gather(-2, take[:, 0])
    end = x.gather(-2, take[:, 1])
    # the square is floored, not the root: the gradient of the root is infinite at zero
    return 0.5 * (start - end).square().sum(-1).clamp_min(_DISTANCE_MIN**2).log()
