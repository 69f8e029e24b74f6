"""Random walks on the spatial neighbour graph (the F2 target) and on a predicted layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SIGMA_MIN = 1e-6  # coincident points: a zero bandwidth would divide by zero
_PROB_MIN = 1e-8  # floor inside logarithms, far below any transition probability that matters


def squared_distances(x: Tensor) -> Tensor:
    """Pairwise squared Euclidean distances of ``(..., n, d)`` points, shape ``(..., n, n)``, with a zero diagonal.

    Differences are formed explicitly: in two dimensions that is as fast as the expanded product and does not
    cancel for close points.
    """
    return (x[..., :, None, :] - x[..., None, :, :]).square().sum(-1)


def neighbour_count(n: int) -> int:
    """Spatial neighbours of a target of ``n`` cells: ``max(20, floor(0.15 n))``, at most ``n - 1``."""
    return min(max(20, int(0.15 * n)), n - 1)


def walk_steps(n: int) -> int:
    """Longest walk compared in a set of ``n`` cells: 3 up to 160 cells, 4 up to 300, else 5."""
    return 3 if n <= 160 else 4 if n <= 300 else 5


@dataclass(frozen=True)
class WalkTarget:
    """What is fixed by the true coordinates of one set.

    Attributes
    ----------
    adjacency
        Union of both directions of the kNN graph, no self loops, bool ``(n, n)``.
    sigma
        Distance to the k-th neighbour, in RMS radii, ``(n,)``.
    steps
        Longest walk that is compared.
    """

    adjacency: Tensor
    sigma: Tensor
    steps: int


def walk_target(x: Tensor, n_neighbors: int | None = None) -> WalkTarget:
    """Edges, bandwidths and walk length that the true layout ``x``, shape ``(n, 2)`` and gauge-fixed, prescribes."""
    n = x.shape[0]
    k = neighbour_count(n) if n_neighbors is None else n_neighbors
    distance2 = squared_distances(x)
    distance2.fill_diagonal_(float("inf"))
    nearest = distance2.topk(k, largest=False)
    adjacency = torch.zeros(n, n, dtype=torch.bool, device=x.device)
    adjacency.scatter_(1, nearest.indices, value=True)
    sigma = nearest.values[:, -1].sqrt().clamp_min(_SIGMA_MIN)
    return WalkTarget(adjacency | adjacency.T, sigma, walk_steps(n))


def log_walk(x: Tensor, adjacency: Tensor, sigma: Tensor) -> Tensor:
    r"""Logarithm of the one-step walk of a layout on given edges and bandwidths.

    .. math:: P^{(1)}_{ij} = w_{ij} / \textstyle\sum_l w_{il}, \quad
              w_{ij} = \exp(-\lVert x_i - x_j \rVert^2 / \sigma_i \sigma_j) \text{ on edges}

    ``w`` is symmetric as the edges and the bandwidth product are, so that W ← (W + Wᵀ)/2 changes nothing.

    Parameters
    ----------
    x
        Layout, ``(..., n, 2)``.
    adjacency
        Edges, bool ``(..., n, n)``, symmetric, without self loops.
    sigma
        Bandwidths, ``(..., n)``.

    Returns
    -------
    Tensor
        ``log P``, shape ``(..., n, n)``; ``-inf`` off the edges and in rows without any edge.
    """
    energy = -squared_distances(x) / (sigma[..., :, None] * sigma[..., None, :])
    energy = energy.masked_fill(~adjacency, float("-inf"))
    normaliser = energy.logsumexp(-1, keepdim=True)
    return energy - normaliser.masked_fill(normaliser == float("-inf"), 0.0)


def predicted_walk(x: Tensor, adjacency: Tensor, sigma: Tensor) -> Tensor:
    """One-step walk of a layout, ``(..., n, n)``; with the true coordinates it *is* the target walk."""
    return log_walk(x, adjacency, sigma).exp()


def walk_kl(log_reference: Tensor, log_predicted: Tensor, steps: Tensor, mask: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of multi-step walks.

    .. math:: L_{RW} = \sum_{s=1}^{S} 0.5^{s-1} \; \mathrm{mean}_i\,
              \mathrm{KL}\big(P^{(s)}_{ref,i} \,\Vert\, P^{(s)}_{pred,i}\big)

    Parameters
    ----------
    log_reference, log_predicted
        ``log P`` of one step on the same edges, ``(B, n, n)``, as from :func:`log_walk`.
    steps
        Longest walk of every set, int ``(B,)``.
    mask
        Which cells are real, bool ``(B, n)``.

    Returns
    -------
    Tensor
        One value a set, ``(B,)``, in nats.
    """
    weight = mask.to(log_predicted.dtype)
    count = weight.sum(-1).clamp_min(1.0)
    one_ref, one_pred = log_reference.exp(), log_predicted.exp()
    on_edge = log_reference > float("-inf")
    gap = log_reference.masked_fill(~on_edge, 0.0) - log_predicted.masked_fill(~on_edge, 0.0)
    total = ((one_ref * gap).sum(-1) * weight).sum(-1) / count
    ref, pred = one_ref, one_pred
    for step in range(2, int(steps.max()) + 1):
        ref, pred = ref @ one_ref, pred @ one_pred
        gap = ref.clamp_min(_PROB_MIN).log() - pred.clamp_min(_PROB_MIN).log()
        kl = ((ref * gap).sum(-1) * weight).sum(-1) / count
        total = total + 0.5 ** (step - 1) * kl * (steps >= step)
    return total
