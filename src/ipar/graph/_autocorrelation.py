"""Spatial autocorrelation: whether neighbours in the tissue express a gene alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

_CHUNK = 512  # genes whose neighbour averages are held at a time


def spatial_average(coords: NDArray[np.float32], n_neighbors: int = 8) -> sparse.csr_matrix:
    """What averages any values of cells over those nearest to each in the tissue, ``(n, n)``; rows sum to 1.

    Parameters
    ----------
    coords
        Coordinates, ``(n, 2)`` or ``(n, 3)``.
    n_neighbors
        Nearest cells that count, all alike; all others, where there are no more.
    """
    k = min(n_neighbors, len(coords) - 1)
    return sparse.csr_matrix(kneighbors_graph(coords, k).astype(np.float32) / np.float32(k))


def morans_i(x: NDArray[np.float32], coords: NDArray[np.float32], n_neighbors: int = 8) -> NDArray[np.float32]:
    r"""Moran's I of genes on one slide.

    .. math:: I = \sum_i z_i \bar z_i \Big/ \sum_i z_i^2,

    with :math:`z` a gene centred on the slide and :math:`\bar z_i` its mean over the cells nearest to cell i: near 1 for a
    gene with large territories, near 0 for one that says nothing of place.

    Parameters
    ----------
    x
        Expression, ``(n, n_genes)``.
    coords
        Coordinates, ``(n, 2)`` or ``(n, 3)``.
    n_neighbors
        Nearest cells that count, all alike; all others, where there are no more.

    Returns
    -------
    NDArray
        ``(n_genes,)``; 0 for genes that do not vary.

    References
    ----------
    Moran, Notes on continuous stochastic phenomena, Biometrika 37 (1950).
    """
    average = spatial_average(coords, n_neighbors)
    found = np.zeros(x.shape[1], dtype=np.float32)
    for start in range(0, x.shape[1], _CHUNK):
        some = slice(start, start + _CHUNK)
        z = x[:, some] - x[:, some].mean(axis=0)
        square = np.square(z).sum(axis=0)
        found[some] = np.divide((z * (average @ z)).sum(axis=0), square, out=found[some], where=square > 0)
    return found
