"""Agreement of true and predicted neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from ipar._public import public
from ipar.metrics._distances import distance_rows
from ipar.metrics.checks import FloatArray, check_n_neighbors, ranged_pair


def _hide_self(block: FloatArray, start: int) -> FloatArray:
    block[np.arange(len(block)), start + np.arange(len(block))] = np.inf
    return block


def _neighbour_shares(distances: FloatArray, radius: FloatArray, n_neighbors: int) -> csr_array:
    # (b, n): 1 for a neighbour, 0 for others; cells tied at the k-th distance share the places left, so rows sum to k.
    # Distances between spots of a regular array are equal up to rounding
    inner, outer = radius * (1 - 1e-9), radius * (1 + 1e-9)
    row, column = np.nonzero(distances <= outer[:, None])
    inside = distances[row, column] < inner[row]
    n_inside = np.bincount(row, weights=inside, minlength=len(distances))
    n_tied = np.bincount(row, minlength=len(distances)) - n_inside
    share = np.where(inside, 1.0, ((n_neighbors - n_inside) / n_tied)[row])
    return csr_array((share, (row, column)), shape=distances.shape)


def _kth_distances(block: FloatArray, counts: Sequence[int]) -> FloatArray:
    places = [k - 1 for k in counts]
    kth: FloatArray = np.partition(block, sorted(set(places)), axis=1)[:, places]
    return kth


def knn_hits(true: FloatArray, pred: FloatArray, counts: Sequence[int], block: int = 2**22) -> list[float]:
    """`knn_hit` for several numbers of neighbours in one pass over the distances."""
    hits = np.zeros(len(counts))
    for start, a, b in distance_rows(true, pred, block):
        a, b = _hide_self(a, start), _hide_self(b, start)
        radius_a, radius_b = _kth_distances(a, counts), _kth_distances(b, counts)
        for c, k in enumerate(counts):
            shared = _neighbour_shares(a, radius_a[:, c], k) * _neighbour_shares(b, radius_b[:, c], k)
            hits[c] += shared.sum() / (k * len(true))
    return [float(h) for h in hits]


@public
def knn_hit(true: ArrayLike, pred: ArrayLike, *, n_neighbors: int = 20) -> float:
    """Mean share of the true nearest neighbours of a cell among its predicted nearest neighbours.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    n_neighbors
        Neighbours per cell, without the cell itself.

    Returns
    -------
    Share in [0, 1]. A random layout scores `n_neighbors` / (n_cells - 1).

    Notes
    -----
    Cells tied at the k-th place (within a relative 1e-9) share the places left. This is the expected value under random
    tie-breaking, so that the score does not depend on the order of rows. A prediction on one point scores exactly chance.
    """
    truth, layout = ranged_pair(true, pred)
    check_n_neighbors(n_neighbors, len(truth), len(truth) - 1)
    return knn_hits(truth, layout, [n_neighbors])[0]


def knn_chance(n_cells: int, n_neighbors: int) -> float:
    """Expected `knn_hit` of a random layout, k / (n - 1)."""
    check_n_neighbors(n_neighbors, n_cells, n_cells - 1)
    return n_neighbors / (n_cells - 1)


def _intrusion(reference: FloatArray, layout: FloatArray, k: int) -> float:
    # sum over neighbours in `layout` of their rank in `reference` beyond k
    shares = _neighbour_shares(layout, _kth_distances(layout, [k])[:, 0], k)
    ordered = np.sort(reference, axis=1)
    total = 0.0
    for i in range(len(reference)):
        entries = slice(shares.indptr[i], shares.indptr[i + 1])
        distance = reference[i, shares.indices[entries]]
        below = np.searchsorted(ordered[i], distance, side="left")
        upto = np.searchsorted(ordered[i], distance, side="right")
        rank = (below + upto + 1) / 2  # 1 for the nearest; ties share their average rank
        total += float(shares.data[entries] @ np.maximum(rank - k, 0))
    return total


def rank_preservation(reference: FloatArray, layout: FloatArray, k: int, block: int = 2**22) -> float:
    """Trustworthiness, with the reference as truth."""
    n = len(reference)
    check_n_neighbors(k, n, (n - 1) // 2)  # the normalisation is valid for k < n / 2
    total = 0.0
    for start, a, b in distance_rows(reference, layout, block):
        total += _intrusion(_hide_self(a, start), _hide_self(b, start), k)
    return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))


@public
def trustworthiness(true: ArrayLike, pred: ArrayLike, *, n_neighbors: int = 20) -> float:
    r"""Whether predicted neighbours are true neighbours, penalised by their true rank.

    .. math:: 1 - \frac{2}{nk(2n - 3k - 1)} \sum_i \sum_{j \in N_k^\mathrm{pred}(i)} \max(0, r^\mathrm{true}_{ij} - k)

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2), in any unit.
    n_neighbors
        Neighbours per cell, without the cell itself; below n_cells / 2.

    Returns
    -------
    Score in [0, 1]. A random layout scores about 0.5; 1 means that all predicted neighbours are true ones.

    Notes
    -----
    Venna and Kaski, ICANN 2001. It equals `sklearn.manifold.trustworthiness` but for ties, which are shared as in
    `knn_hit`, and needs less memory.
    """
    return rank_preservation(*ranged_pair(true, pred), n_neighbors)


@public
def continuity(true: ArrayLike, pred: ArrayLike, *, n_neighbors: int = 20) -> float:
    """Whether true neighbours are predicted neighbours: `trustworthiness` with the layouts exchanged.

    Parameters
    ----------
    true, pred, n_neighbors
        As for `trustworthiness`.

    Returns
    -------
    Score in [0, 1]. A random layout scores about 0.5; 1 means that all true neighbours are predicted ones.
    """
    truth, layout = ranged_pair(true, pred)
    return rank_preservation(layout, truth, n_neighbors)
