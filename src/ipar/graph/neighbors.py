"""Nearest neighbours within each slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer, NearestNeighbors


class Transformer(Protocol):
    """A scikit-learn transformer that gives a sparse neighbour graph of distances."""

    def fit_transform(self, X: Any) -> Any:
        """Distances of each row to its neighbours, CSR."""


@dataclass(frozen=True)
class GraphAlone:
    """PyNNDescent without its index for new cells, which takes a minute to compile."""

    search: Any

    def fit_transform(self, X: Any) -> Any:
        """Distances of each row to its neighbours, CSR."""
        return self.search.fit(X, compress_index=False).transform(None)


@dataclass(frozen=True)
class ExactCosine:
    """Exact search by cosine distance: half the squared distance of rows of norm 1, in a third of the time and memory."""

    n_neighbors: int

    def fit_transform(self, X: Any) -> Any:
        """Distances of each row to its neighbours, CSR."""
        norm = np.linalg.norm(X, axis=1, keepdims=True)
        # rows without direction are at distance 1 from all others
        unit = np.hstack([X / np.where(norm > 0, norm, 1), norm == 0]).astype(X.dtype)
        search = NearestNeighbors(n_neighbors=self.n_neighbors, metric="sqeuclidean", algorithm="brute").fit(unit)
        found = search.kneighbors_graph(mode="distance")
        found.data /= 2
        return found


def default_transformer(n_cells: int, n_neighbors: int, metric: str, random_state: int, exact_max: int) -> Transformer:
    """Exact search up to `exact_max` cells, PyNNDescent beyond, where exact search takes minutes."""
    if n_cells <= exact_max and metric == "cosine":
        return ExactCosine(n_neighbors)
    if n_cells <= exact_max:
        exact: Transformer = KNeighborsTransformer(n_neighbors=n_neighbors, metric=metric, algorithm="auto")
        return exact
    from pynndescent import PyNNDescentTransformer

    # some versions count the cell itself as a neighbour
    return GraphAlone(PyNNDescentTransformer(n_neighbors=n_neighbors + 1, metric=metric, random_state=random_state))


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
        Distance metric. Ignored if a transformer is given.
    transformer
        Any scikit-learn neighbour transformer, used with its own settings.
    random_state
        Seed of the approximate search.
    exact_max
        Largest slide, in cells, that is searched exactly. Larger ones are searched by PyNNDescent.

    Returns
    -------
    csr_matrix
        ``(n, n)``, with a zero diagonal and at most ``n_neighbors`` entries per row.
    """
    none = np.empty(0, dtype=np.int64)
    rows, columns, values = [none], [none], [np.empty(0, dtype=np.float32)]
    for cells in cells_by_slide(slides, len(h)):
        k = min(n_neighbors, len(cells) - 1)
        if k < 1:
            continue
        search = transformer or default_transformer(len(cells), k, metric, random_state, exact_max)
        row, column, distance = _nearest(sparse.csr_matrix(search.fit_transform(h[cells])), k)
        rows.append(cells[row])
        columns.append(cells[column])
        values.append(distance)
    # two cells with the same embedding: an exact zero would count as no edge
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

    on the union of both directions. Each cell has its own bandwidth.
    """
    n = distances.shape[0]
    rows = np.split(distances.data, distances.indptr[1:-1])
    sigma = np.array([np.median(row) if len(row) else 1.0 for row in rows])
    edges = sparse.coo_matrix(distances.maximum(distances.T))
    scale = np.maximum(sigma[edges.row] * sigma[edges.col], np.finfo(np.float32).tiny)
    weights = np.exp(-np.minimum(edges.data.astype(np.float64) ** 2 / scale, 50.0)).astype(np.float32)
    return sparse.csr_matrix((weights, (edges.row, edges.col)), shape=(n, n))
