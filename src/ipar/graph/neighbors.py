"""Nearest neighbours within each slide."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

from ipar.graph.nearest import FaissTransformer


class Transformer(Protocol):
    """A scikit-learn transformer that gives a sparse neighbour graph of distances."""

    def fit_transform(self, X: Any) -> Any:
        """Distances of each row to its neighbours, CSR."""


def cells_by_slide(slides: pd.Categorical[Any] | None, n_cells: int) -> list[NDArray[np.int64]]:
    """Indices of the cells of each slide, or of all cells if ``slides`` is None."""
    if slides is None:
        return [np.arange(n_cells)]
    return [np.flatnonzero(slides == name) for name in slides.categories]


def neighbor_distances(
    h: NDArray[np.float32],
    slides: pd.Categorical[Any] | None,
    n_neighbors: int,
    *,
    metric: str = "cosine",
    transformer: Transformer | None = None,
    random_state: int = 0,
    exact_max: int = 40_000,
) -> sparse.csr_matrix:
    """Distances of each cell to its nearest neighbours on its own slide.

    Parameters
    ----------
    h
        Embeddings, ``(n, d)``.
    slides
        Slide of each cell, or None for a single slide.
    n_neighbors
        Neighbours per cell, without the cell itself. On a smaller slide, all other cells.
    metric
        Distance metric: any of scikit-learn's. Ignored if a transformer is given.
    transformer
        Any scikit-learn neighbour transformer, used with its own settings.
    random_state
        Seed of the approximate search.
    exact_max
        Largest slide, in cells, that is searched exactly by cosine and Euclidean distance. All others are.

    Returns
    -------
    csr_matrix
        ``(n, n)``, with a zero diagonal and at most ``n_neighbors`` entries per row.
    """
    parts = []
    for cells in cells_by_slide(slides, len(h)):
        k = min(n_neighbors, len(cells) - 1)
        if k < 1:
            continue
        if transformer is None and metric in ("cosine", "euclidean"):
            found = FaissTransformer(k, metric, exact_max, random_state=random_state).fit_transform(h[cells])
        else:
            search = transformer or KNeighborsTransformer(n_neighbors=k, metric=metric)
            found = _nearest_of(sparse.csr_matrix(search.fit_transform(h[cells])), k)
        parts.append((cells, found))
    return joined_graphs(parts, len(h))


def joined_graphs(parts: list[tuple[NDArray[np.int64], sparse.csr_matrix]], n_cells: int) -> sparse.csr_matrix:
    """One graph of all cells ``(n, n)`` from those of slides, each with its cells."""
    if len(parts) == 1 and len(parts[0][0]) == n_cells:  # lists of ends would take memory
        cells, graph = parts[0]
        if np.array_equal(cells, np.arange(n_cells)):
            return graph
        return sparse.csr_matrix((graph.data, cells[graph.indices], graph.indptr), shape=graph.shape)[np.argsort(cells)]
    none = np.empty(0, dtype=np.int64)
    rows, columns, values = [none], [none], [np.empty(0, dtype=np.float32)]
    for cells, graph in parts:
        rows.append(np.repeat(cells, np.diff(graph.indptr)))
        columns.append(cells[graph.indices])
        values.append(graph.data)
    ends = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_matrix((np.concatenate(values), ends), shape=(n_cells, n_cells))


def _nearest_of(found: sparse.csr_matrix, k: int) -> sparse.csr_matrix:
    """The k nearest of every row of a neighbour graph, the row itself excluded."""
    row, column = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr)), found.indices
    # PyNNDescent marks a neighbour that it did not find by column −1
    others = np.flatnonzero((row != column) & (column >= 0))
    order = others[np.lexsort((found.data[others], row[others]))]
    first = np.searchsorted(row[order], row[order], side="left")
    kept = order[np.arange(len(order)) - first < k]
    data = np.maximum(found.data[kept], np.finfo(np.float32).tiny).astype(np.float32)
    return sparse.csr_matrix((data, (row[kept], column[kept])), shape=found.shape)


def connectivities(distances: sparse.csr_matrix) -> sparse.csr_matrix:
    r"""Symmetric edge weights from neighbour distances.

    .. math:: w_{ij} = \exp(-d_{ij}^2 / (\sigma_i \sigma_j)), \quad \sigma_i = \text{median}_j\, d_{ij}

    on the union of both directions. Each cell has its own bandwidth.
    """
    counts = np.diff(distances.indptr)
    if len(counts) and counts.min() == counts.max() > 0:
        sigma = np.median(distances.data.reshape(len(counts), -1), axis=1)
    else:
        rows = np.split(distances.data, distances.indptr[1:-1])
        sigma = np.array([np.median(row) if len(row) else 1.0 for row in rows])
    weights = sparse.csr_matrix(distances.maximum(distances.T))
    row = np.repeat(np.arange(len(counts), dtype=np.int32), np.diff(weights.indptr))
    scale = np.maximum(sigma[row] * sigma[weights.indices], np.finfo(np.float32).tiny)
    square = weights.data.astype(np.float64) ** 2
    weights.data = np.exp(-np.minimum(square / scale, 50.0)).astype(np.float32)
    return weights
