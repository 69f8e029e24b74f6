"""Random walks on the spatial neighbour graph and on a predicted layout."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor


def squared_distances(x: Tensor) -> Tensor:
    """Pairwise squared Euclidean distances ``(..., n, n)`` of points ``(..., n, d)``, also accurate for close points."""
    # axis by axis: a sum over two or three entries is far slower
    gaps = ((axis[..., :, None] - axis[..., None, :]).square() for axis in x.unbind(-1))
    return functools.reduce(torch.add, gaps)


def pair_distances(x: Tensor) -> Tensor:
    """Distances of all pairs of points ``(n, d)``, ``(n (n − 1) / 2,)``, with a gradient of 0 at coincident points."""
    return differences_of_pairs(x) if x.device.type == "mps" else torch.pdist(x)  # which has no kernel on MPS


def differences_of_pairs(x: Tensor) -> Tensor:
    """:func:`pair_distances` by operators that every device has; memory grows with n² d."""
    first, second = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    distance: Tensor = torch.linalg.vector_norm(x[first] - x[second], dim=1)
    return distance


def neighbour_count(n: int) -> int:
    """Number of spatial neighbours in a set of ``n`` cells: ``max(20, floor(0.15 n))``, at most ``n - 1``."""
    return min(max(20, int(0.15 * n)), n - 1)


def walk_steps(n: int) -> int:
    """Longest walk in a set of ``n`` cells: 3 steps up to 160 cells, 4 up to 300, else 5."""
    return 3 if n <= 160 else 4 if n <= 300 else 5


@dataclass(frozen=True)
class WalkTarget:
    """Target of the walk loss, from the true coordinates of one set.

    Attributes
    ----------
    adjacency
        Symmetric kNN graph without self loops, bool ``(n, n)``.
    sigma
        Distance of each cell to its k-th neighbour, in RMS radii, ``(n,)``.
    steps
        Longest walk, in steps.
    """

    adjacency: Tensor
    sigma: Tensor
    steps: int


def walk_target(x: Tensor, n_neighbors: int | None = None) -> WalkTarget:
    """Target of the walk loss from a true layout ``(n, 2)``, gauge-fixed.

    By default, each cell has :func:`neighbour_count` neighbours.
    """
    n = x.shape[0]
    k = neighbour_count(n) if n_neighbors is None else n_neighbors
    distance2 = squared_distances(x)
    distance2.fill_diagonal_(float("inf"))
    nearest = distance2.topk(k, largest=False)
    adjacency = torch.zeros(n, n, dtype=torch.bool, device=x.device)
    adjacency.scatter_(1, nearest.indices, value=True)
    sigma = nearest.values[:, -1].sqrt().clamp_min(1e-6)  # not zero where points coincide
    return WalkTarget(adjacency | adjacency.T, sigma, walk_steps(n))


def log_walk(x: Tensor, adjacency: Tensor, sigma: Tensor) -> Tensor:
    r"""Log transition probabilities of one step of the random walk on a layout.

    .. math:: P^{(1)}_{ij} = w_{ij} / \textstyle\sum_l w_{il}, \quad
              w_{ij} = \exp(-\lVert x_i - x_j \rVert^2 / \sigma_i \sigma_j) \text{ on edges}

    The layout x is ``(..., n, 2)``, edges are symmetric without self loops, bool ``(..., n, n)``, and each cell has a
    bandwidth σ ``(..., n)``. Returns ``log P`` ``(..., n, n)``, which is ``-inf`` where there is no edge.
    """
    energy = -squared_distances(x) / (sigma[..., :, None] * sigma[..., None, :])
    energy = energy.masked_fill(~adjacency, float("-inf"))
    normaliser = energy.logsumexp(-1, keepdim=True)
    return energy - normaliser.masked_fill(normaliser == float("-inf"), 0.0)


def predicted_walk(x: Tensor, adjacency: Tensor, sigma: Tensor) -> Tensor:
    """Transition probabilities of one step, ``(..., n, n)``: the exponential of :func:`log_walk`."""
    return log_walk(x, adjacency, sigma).exp()


def walk_kl(
    log_reference: Tensor, log_predicted: Tensor, steps: Tensor, mask: Tensor, *, most_steps: int | None = None
) -> Tensor:
    r"""Kullback-Leibler divergence of multi-step walks.

    .. math:: L_{RW} = \sum_{s=1}^{S} 0.5^{s-1} \; \mathrm{mean}_i\,
              \mathrm{KL}\big(P^{(s)}_{ref,i} \,\Vert\, P^{(s)}_{pred,i}\big)

    ``log_reference`` and ``log_predicted`` are ``log P`` of one step on the same edges, ``(B, n, n)``, as from
    :func:`log_walk`. ``steps`` is the longest walk S of each set, int ``(B,)``, and ``mask`` is True for real cells, False
    for padding, ``(B, n)``. ``most_steps`` is the largest of ``steps``, if it is known. Returns one value per set, in nats, ``(B,)``.
    """
    weight = mask.to(log_predicted.dtype)
    count = weight.sum(-1).clamp_min(1.0)
    one_ref, one_pred = log_reference.exp(), log_predicted.exp()
    on_edge = log_reference > float("-inf")
    gap = log_reference.masked_fill(~on_edge, 0.0) - log_predicted.masked_fill(~on_edge, 0.0)
    total = ((one_ref * gap).sum(-1) * weight).sum(-1) / count
    ref, pred = one_ref, one_pred
    floor = 1e-8  # far below any transition probability that matters
    for step in range(2, (int(steps.max()) if most_steps is None else most_steps) + 1):
        ref, pred = ref @ one_ref, pred @ one_pred
        gap = ref.clamp_min(floor).log() - pred.clamp_min(floor).log()
        kl = ((ref * gap).sum(-1) * weight).sum(-1) / count
        total = total + 0.5 ** (step - 1) * kl * (steps >= step)
    return total


def landmark_count(n: int) -> int:
    """Number of landmarks of a set of ``n`` cells: ``max(8, n // 16)``, at most ``n``."""
    return min(max(8, n // 16), n)


def multiscale_edges(distance: Tensor, n_neighbors: int, generator: torch.Generator, *, n_ring: int = 10) -> Tensor:
    """Undirected edges at three scales, from true distances ``(n, n)``; ``(2, m)`` with ``i < j``, each pair once.

    Edges join each cell to its k nearest, to ``n_ring`` random ones of ranks k + 1 to 3k, which tie neighbourhoods together,
    and random landmarks to each other.
    """
    n = distance.shape[0]
    order = distance.clone().fill_diagonal_(-1.0).argsort(dim=1)[:, 1:]
    ring = order[:, n_neighbors : 3 * n_neighbors]
    n_ring = min(n_ring, n_neighbors, ring.shape[1])
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
    Log distances of the same edges, ``(..., m)``, give one value per set, ``(...)``. The mask is True for real edges, False
    for padding.
    """
    residual = log_predicted - log_true
    if mask is None:
        return (residual - residual.mean(-1, keepdim=True)).square().mean(-1)
    weight = mask.to(residual.dtype)
    count = weight.sum(-1).clamp_min(1.0)
    alpha = (residual * weight).sum(-1) / count
    return ((residual - alpha[..., None]).square() * weight).sum(-1) / count


def log_edge_distance(x: Tensor, edges: Tensor) -> Tensor:
    """Log distances ``(B, m)`` in layouts ``(B, n, 2)`` along edges, pairs of cells ``(B, 2, m)``."""
    take = edges[..., None].expand(*edges.shape, x.shape[-1])
    start, end = x.gather(-2, take[:, 0]), x.gather(-2, take[:, 1])
    # the square is floored, not the root: the gradient of the root is infinite at zero
    return 0.5 * (start - end).square().sum(-1).clamp_min(1e-6**2).log()
