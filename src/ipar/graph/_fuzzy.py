"""Weighted edges between cells that are near each other in an embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar.graph._neighbors import neighbor_distances


def fuzzy_neighbors(
    h: NDArray[np.float32], n_neighbors: int = 8, *, random_state: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    r"""UMAP's graph of one slide by cosine distance: each cell's nearest neighbours count fully, farther ones less.

    .. math:: w_{ij} = v_{ij} + v_{ji} - v_{ij} v_{ji}, \quad
              v_{ij} = \exp\big(-\max(0, d_{ij} - \rho_i) / \sigma_i\big), \quad j \in N_i

    with :math:`\rho_i` the distance of the nearest neighbour and :math:`\sigma_i` such that the weights of a cell sum to
    :math:`\log_2 (k + 1)`. So every cell has an edge, and all cells have about equally many.

    Parameters
    ----------
    h
        Embeddings of one slide, ``(n, d)``.
    n_neighbors
        k, capped at ``n - 1``.
    random_state
        Seed of the approximate search on large slides.

    Returns
    -------
    tuple
        Edges ``(2, m)`` with ``i < j``, each pair once, and their weights ``(m,)``.

    References
    ----------
    McInnes et al., UMAP, arXiv:1802.03426 (2018), section 3.1; computed by umap-learn.
    """
    from umap.umap_ import fuzzy_simplicial_set  # compiles for seconds

    n, k = len(h), min(n_neighbors, len(h) - 1)
    near = neighbor_distances(h, None, k, random_state=random_state)
    rows = np.repeat(np.arange(n), np.diff(near.indptr))
    order = np.lexsort((near.data, rows))
    rank = np.arange(len(order)) - near.indptr[:-1][rows]
    # An approximate search may find fewer than k. umap-learn leaves a neighbour of index −1 out, but takes means of its
    # distance: that of the farthest one found.
    indices = np.full((n, k + 1), -1, dtype=np.int32)
    distances = np.repeat(near.max(axis=1).toarray(), k + 1, axis=1).astype(np.float32)
    indices[:, 0], distances[:, 0] = np.arange(n), 0.0  # umap-learn counts the cell itself
    indices[rows, rank + 1], distances[rows, rank + 1] = near.indices[order], near.data[order]
    graph, *_ = fuzzy_simplicial_set(
        h, n_neighbors=k + 1, random_state=None, metric="cosine", knn_indices=indices, knn_dists=distances
    )
    upper = sparse.triu(graph, k=1).tocoo()
    return np.stack([upper.row, upper.col]).astype(np.int64), upper.data.astype(np.float32)
