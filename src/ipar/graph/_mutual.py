"""Pairs of cells that choose each other: the neighbours in an embedding that can be relied on most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from ipar.graph._neighbors import neighbor_distances


def mutual_neighbors(
    h: NDArray[np.float32], n_neighbors: int = 15, *, random_state: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    r"""Mutual nearest neighbours by cosine distance, weighted by the neighbours that they share.

    .. math:: w_{ij} = \min\big(1,\ 2\,|\bar N_i \cap \bar N_j| / k\big), \quad j \in N_i,\ i \in N_j,
              \quad \bar N_i = N_i \cup \{i\}

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
    Shared neighbours as similarity: Jarvis & Patrick, IEEE Trans. Comput. C-22, 1025 (1973).
    """
    n, k = len(h), min(n_neighbors, len(h) - 1)
    one: pd.Categorical[Any] = pd.Categorical(np.zeros(n, dtype=np.int8))
    near = neighbor_distances(h, one, k, random_state=random_state)
    near.data[:] = 1.0
    mutual = sparse.triu(near.multiply(near.T), k=1).tocoo()
    closed = sparse.csr_matrix(near + sparse.identity(n, dtype=np.float32, format="csr"))
    shared = np.asarray(closed[mutual.row].multiply(closed[mutual.col]).sum(axis=1)).ravel()
    weights = np.minimum(1.0, 2.0 * shared / max(k, 1)).astype(np.float32)
    return np.stack([mutual.row, mutual.col]).astype(np.int64), weights
