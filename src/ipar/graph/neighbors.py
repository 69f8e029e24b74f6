"""The candidate graph of a whole AnnData: nearest neighbours within each slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

EXACT_MAX = 40_000  # beyond it brute force takes minutes and approximate search finds the same neighbours


class Transformer(Protocol):
    """A scikit-learn transformer that gives a sparse neighbour graph of distances."""

    def fit_transform(self, X: Any) -> Any:
        """Distances of every row to its neighbours, CSR."""
        ...


@dataclass(frozen=True)
class GraphAlone:
    """PyNNDescent up to its graph: its own ``fit_transform`` goes on to an index for other cells, compiled for a minute."""

    search: Any

    def fit_transform(self, X: Any) -> Any:
        """Distances of every row to its neighbours, CSR."""
        return self.search.fit(X, compress_index=False).transform(None)


def default_transformer(n_cells: int, n_neighbors: int, metric: str, random_state: int) -> Transformer:
    """Exact search up to 40,000 cells, PyNNDescent beyond."""
    if n_cells <= EXACT_MAX:
        exact: Transformer = KNeighborsTransformer(n_neighbors=n_neighbors, metric=metric, algorithm="auto")
        return exact
    from pynndescent import PyNNDescentTransformer

    # some versions count the cell itself as a neighbour
    return GraphAlone(PyNNDescentTransformer(n_neighbors=n_neighbors + 1, metric=metric, random_state=random_state))


def cells_by_slide(slides: pd.Categorical[Any] | None, n_cells: int) -> list[NDArray[np.int64]]:
    """Indices of the cells of every slide; of all cells, where they are of one and ``slides`` is None."""
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
) -> sparse.csr_matrix:
    """Distances of every cell to its nearest neighbours in its own slide.

    Parameters
    ----------
    h
        Embeddings, ``(n, d)``.
    slides
        Slide of every cell; None, if all are of one.
    n_neighbors
        Neighbours a cell, itself excluded; a slide of fewer cells gives all others.
    metric
        Distance; ignored where a transformer is given.
    transformer
        Any scikit-learn neighbour transformer; its own settings hold.
    random_state
        Seed of the approximate search.

    Returns
    -------
    csr_matrix
        ``(n, n)``, zero diagonal, at most ``n_neighbors`` entries a row.
    """
    none = np.empty(0, dtype=np.int64)
    rows, columns, values = [none], [none], [np.empty(0, dtype=np.float32)]
    for cells in cells_by_slide(slides, len(h)):
        k = min(n_neighbors, len(cells) - 1)
        if k < 1:
            continue
        search = transformer or default_transformer(len(cells), k, metric, random_state)
        row, column, distance = _nearest(sparse.csr_matrix(search.fit_transform(h[cells])), k)
        rows.append(cells[row])
        columns.append(cells[column])
        values.append(distance)
    # an exact zero (two cells with one embedding) would count as "no edge"
    data = np.maximum(np.concatenate(values), np.finfo(np.float32).tiny).astype(np.float32)
    shape = (len(h), len(h))
    return sparse.csr_matrix((data, (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _nearest(found: sparse.csr_matrix, k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Row, column and distance of the k nearest of every row of a neighbour graph, the row itself excluded."""
    row, column = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr)), found.indices
    # PyNNDescent marks a neighbour that it did not find by column −1
    others = np.flatnonzero((row != column) & (column >= 0))
    order = others[np.lexsort((found.data[others], row[others]))]
    first = np.searchsorted(row[order], row[order], side="left")
    kept = order[np.arange(len(order)) - first < k]
    return row[kept], column[kept], found.data[kept]


def connectivities(distances: sparse.csr_matrix) -> sparse.csr_matrix:
    r"""Symmetric edge weights from neighbour distances.

    .. math:: w_{ij} = \exp(-d_{ij}^2 / (\sigma_i \sigma_j)), \quad \sigma_i = \text{median}_j\, d_{ij}

    on the union of both directions: the kernel of the walk targets, with a bandwidth of each cell's own.
    """
    n = distances.shape[0]
    sigma = np.array(
        [
            np.median(distances.data[a:b]) if b > a else 1.0
            for a, b in zip(distances.indptr[:-1], distances.indptr[1:], strict=True)
        ]
    )
    edges = sparse.coo_matrix(distances.maximum(distances.T))
    scale = np.maximum(sigma[edges.row] * sigma[edges.col], np.finfo(np.float32).tiny)
    weights = np.exp(-np.minimum(edges.data.astype(np.float64) ** 2 / scale, 50.0)).astype(np.float32)
    return sparse.csr_matrix((weights, (edges.row, edges.col)), shape=(n, n))
