"""Averages over similar cells, and over neighbours in the tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import kneighbors_graph

from ipar.graph.neighbors import cells_by_slide, joined_graphs, neighbor_distances


def neighbor_average(
    components: NDArray[np.float32], slides: pd.Categorical[Any] | None, n_neighbors: int, *, random_state: int = 0
) -> sparse.csr_matrix:
    """Matrix that averages values over each cell and the cells most similar to it on its own slide.

    Neighbours are found by cosine distance. Mutual neighbours have weight 1, others ½, the cell itself 1.

    Parameters
    ----------
    components
        Principal components of expression centred within slides, ``(n, n_pcs)``.
    slides
        Slide of each cell, or None for a single slide.
    n_neighbors
        Neighbours per cell, at most a tenth of the slide.
    random_state
        Seed of the approximate search on large slides.

    Returns
    -------
    csr_matrix
        ``(n, n)``, float32. Rows sum to 1.
    """
    parts = []
    for cells in cells_by_slide(slides, len(components)):
        if len(cells):
            k = max(1, min(n_neighbors, len(cells) // 10))  # averages over a whole small slide would not differ
            parts.append((cells, neighbor_distances(components[cells], None, k, random_state=random_state)))
    directed = joined_graphs(parts, len(components))
    directed.sort_indices()
    directed.data[:] = 0.5
    weights = sparse.csr_matrix(directed + directed.T)
    weights = sparse.csr_matrix(weights + sparse.identity(len(components), dtype=np.float32, format="csr"))
    total = np.asarray(weights.sum(axis=1)).ravel()
    weights.data *= np.repeat((1.0 / total).astype(np.float32), np.diff(weights.indptr))
    return weights


def averaged_features(
    components: NDArray[np.float32], average: sparse.csr_matrix, codes: NDArray[np.int_], n_hops: int
) -> NDArray[np.float32]:
    """Components beside their averages over one to ``n_hops`` steps of the neighbour graph.

    Averaging shrinks values, more so if neighbours differ. Each block is therefore scaled to the RMS of the components on
    the slide.

    Components ``(n, n_pcs)`` are centred within slides, the average is that of :func:`neighbor_average`, and ``codes`` has
    the slide index of each cell ``(n,)``. Returns ``(n, (n_hops + 1) · n_pcs)``, float32.

    References
    ----------
    Frasca et al., SIGN: Scalable Inception Graph Neural Networks, arXiv:2004.11198 (2020).
    """
    size, width = _slide_rms(components, codes), components.shape[1]
    out = np.empty((len(components), (n_hops + 1) * width), dtype=np.float32)
    out[:, :width] = current = components
    for hop in range(1, n_hops + 1):
        current = (average @ current).astype(np.float32, copy=False)
        scale = (size / np.maximum(_slide_rms(current, codes), 1e-6))[codes][:, None]
        np.multiply(current, scale, out=out[:, hop * width : (hop + 1) * width])
    return out


def _slide_rms(x: NDArray[np.float32], codes: NDArray[np.int_]) -> NDArray[np.float32]:
    counts = np.maximum(np.bincount(codes), 1)
    mean_square = np.bincount(codes, np.square(x).mean(axis=1)) / counts
    return np.sqrt(mean_square).astype(np.float32)


def spatial_average(coords: NDArray[np.float32], n_neighbors: int = 8) -> sparse.csr_matrix:
    """Matrix ``(n, n)`` that averages values over the nearest cells in the tissue, with equal weights."""
    k = min(n_neighbors, len(coords) - 1)
    return sparse.csr_matrix(kneighbors_graph(coords, k).astype(np.float32) / np.float32(k))


def morans_i(
    x: NDArray[np.float32], coords: NDArray[np.float32], n_neighbors: int = 8, *, chunk: int = 512
) -> NDArray[np.float32]:
    r"""Moran's I of genes on one slide.

    .. math:: I = \sum_i z_i \bar z_i \Big/ \sum_i z_i^2,

    where :math:`z` is a gene centred on the slide, and :math:`\bar z_i` its mean over the cells nearest to cell i. It is
    near 1 for a gene with large territories, and near 0 for one without spatial pattern.

    Parameters
    ----------
    x
        Expression, ``(n, n_genes)``.
    coords
        Coordinates, ``(n, 2)`` or ``(n, 3)``.
    n_neighbors
        Number of nearest cells, which have equal weights.
    chunk
        Genes whose averages are held in memory at a time.

    Returns
    -------
    NDArray
        ``(n_genes,)``. 0 for constant genes.

    References
    ----------
    Moran, Notes on continuous stochastic phenomena, Biometrika 37 (1950).
    """
    average = spatial_average(coords, n_neighbors)
    found = np.zeros(x.shape[1], dtype=np.float32)
    for start in range(0, x.shape[1], chunk):
        some = slice(start, start + chunk)
        z = x[:, some] - x[:, some].mean(axis=0)
        square = np.square(z).sum(axis=0)
        found[some] = np.divide((z * (average @ z)).sum(axis=0), square, out=found[some], where=square > 0)
    return found
