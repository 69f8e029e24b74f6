"""Nearest neighbours within each slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.neighbors import KNeighborsTransformer

from ipar._chunks import row_slices
from ipar._cluster import pool


class Transformer(Protocol):
    """A scikit-learn transformer that gives a sparse neighbour graph of distances."""

    def fit_transform(self, X: Any) -> Any:
        """Distances of each row to its neighbours, CSR."""


@dataclass(frozen=True)
class Nearest:
    """The k nearest cells of every cell of a slide, nearest first, without the cell itself.

    Attributes
    ----------
    index
        The cells, int32 ``(n, k)``.
    distance
        Their distances, float32 ``(n, k)``.
    """

    index: NDArray[np.int32]
    distance: NDArray[np.float32]

    def first(self, k: int) -> Nearest:
        """The k nearest of them."""
        return Nearest(self.index[:, :k], self.distance[:, :k])

    def in_order(self, order: NDArray[np.intp]) -> Nearest:
        """The same with the cells in another order."""
        if np.array_equal(order, np.arange(len(self.index))):
            return self
        return Nearest(np.argsort(order).astype(np.int32)[self.index[order]], self.distance[order])

    def graph(self, n_columns: int | None = None) -> sparse.csr_matrix:
        """Distances as a CSR matrix ``(n, n)``, or of so many columns where neighbours are other cells."""
        n, k = self.index.shape
        # two cells with the same embedding: an exact zero would count as no edge
        data = np.maximum(self.distance, np.finfo(np.float32).tiny).ravel()
        return sparse.csr_matrix((data, self.index.ravel(), k * np.arange(n + 1)), shape=(n, n_columns or n))


@dataclass(frozen=True)
class FaissTransformer:
    """Nearest neighbours by faiss, as a scikit-learn transformer.

    Up to `exact_max` cells the search is exact. More cells are sorted into 4√n lists of similar ones, and a cell's
    neighbours are sought in the lists that are closest to it, so that time grows with n√n.

    The last digits of the distances that a search compares depend on the number of threads. Some more neighbours are
    therefore found than asked for, and sorted by distances that do not.

    Attributes
    ----------
    n_neighbors
        Neighbours per cell.
    metric
        ``"cosine"`` or ``"euclidean"``.
    exact_max
        Cells that are searched exactly.
    n_lists_searched
        Lists in which the neighbours of a cell are sought.
    n_more
        Neighbours that are found beyond those asked for.
    random_state
        Seed of the lists.

    References
    ----------
    Douze et al., The Faiss library, arXiv:2401.08281 (2024).
    """

    n_neighbors: int
    metric: str = "cosine"
    exact_max: int = 40_000
    n_lists_searched: int = 16
    n_more: int = 4
    random_state: int = 0

    def fit_transform(self, X: NDArray[np.float32]) -> sparse.csr_matrix:
        """Distances of each row to its neighbours, CSR."""
        return self.nearest(X).graph()

    def nearest(self, x: NDArray[np.float32], n_rows: int = 8192) -> Nearest:
        """Neighbours of each row, as lists; ``n_rows`` are sought at a time."""
        n, x = len(x), np.ascontiguousarray(x, dtype=np.float32)
        k, norms = min(self.n_neighbors, n - 1), self._norms(x)
        index, distance = np.empty((n, k), dtype=np.int32), np.empty((n, k), dtype=np.float32)
        parts = [(start, min(start + n_rows, n)) for start in range(0, n, n_rows)]
        found = pool().map("nearest", _nearest_of_rows, parts, self, self._lists(x, norms, n_rows), x, norms)
        for (start, stop), own in zip(parts, found, strict=True):
            index[start:stop], distance[start:stop] = own
        return Nearest(index, distance)

    def of_rows(
        self, ends: tuple[int, int], lists: Any, x: NDArray[np.float32], norms: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Neighbours of the rows from a first one up to another one, and their distances, from an index of all."""
        own = np.arange(*ends)
        k, prepared = min(self.n_neighbors, len(x) - 1), x[own] / norms[own, None]
        found = lists.search(prepared, min(k + 1 + self.n_more, len(x)))[1]
        short = np.flatnonzero((found < 0).any(axis=1))  # the lists held fewer cells than asked
        if short.size:
            found[short] = self._search(prepared[short], x / norms[:, None], found.shape[1])
        itself = found == own[:, None]
        itself[~itself.any(axis=1), -1] = True  # among many cells in one place, a cell may not find itself
        return self._sorted(x[own], x, (norms[own], norms), found[~itself].reshape(len(found), -1), k)

    def among(self, x: NDArray[np.float32], others: NDArray[np.float32]) -> Nearest:
        """The nearest of other rows ``(m, d)`` for each row ``(n, d)``, by an exact search."""
        k, (x, others) = min(self.n_neighbors, len(others)), (np.ascontiguousarray(y, np.float32) for y in (x, others))
        norms = self._norms(x), self._norms(others)
        own, known = (y / norm[:, None] for y, norm in zip((x, others), norms, strict=True))
        found = self._search(own, known, min(k + self.n_more, len(others)))
        index, distance = self._sorted(x, others, norms, found, k)
        return Nearest(index.astype(np.int32), distance)

    def _search(self, x: NDArray[np.float32], others: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """The k nearest of other rows for each row, all of norm 1 for cosine distances, ``(n, k)``."""
        import faiss

        found: NDArray[np.int64] = faiss.knn(x, others, k, metric=self._kind)[1]
        return found

    def _sorted(
        self,
        x: NDArray[np.float32],
        others: NDArray[np.float32],
        norms: tuple[NDArray[np.float32], NDArray[np.float32]],
        found: NDArray[np.int64],
        k: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest among those found ``(n, >= k)``, nearest first, and their distances, ``(n, k)`` each.

        A distance is computed in the same way for every pair of rows. Of equal ones the first row comes first.
        """
        import faiss

        compiled: Any = faiss  # its types lack these functions
        found = np.ascontiguousarray(found, dtype=np.int64)
        score = np.empty(found.shape, dtype=np.float32)
        cosine = self.metric == "cosine"
        compare = compiled.fvec_inner_products_by_idx if cosine else compiled.fvec_L2sqr_by_idx
        arrays = (compiled.swig_ptr(array) for array in (score, x, others, found))
        compare(*arrays, x.shape[1], *found.shape)
        if cosine:
            score /= norms[0][:, None] * norms[1][found]
        order = np.lexsort((found, -score if cosine else score), axis=1)[:, :k]
        return np.take_along_axis(found, order, axis=1), self._distance(np.take_along_axis(score, order, axis=1))

    def _norms(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """What rows are divided by: their norm for cosine distances; a row without direction is at distance 1 from all."""
        if self.metric == "euclidean":
            return np.ones(len(x), dtype=np.float32)
        norm = np.concatenate([np.linalg.norm(x[rows], axis=1) for rows in row_slices(len(x))])
        return np.where(norm > 0, norm, 1).astype(np.float32)

    def _distance(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """From what faiss returns: products of rows, or squared distances."""
        if self.metric == "euclidean":
            return np.sqrt(np.maximum(score, 0))
        return np.maximum(1 - score, 0)

    def _lists(self, x: NDArray[np.float32], norms: NDArray[np.float32], n_rows: int) -> Any:
        """An index of all rows, of norm 1 for cosine distances."""
        import faiss

        n, width = x.shape
        index: Any = faiss.IndexFlat(width, self._kind)
        if n > self.exact_max:
            n_lists = int(4 * n**0.5)
            index = faiss.IndexIVFFlat(index, width, n_lists, self._kind)
            index.nprobe, index.cp.spherical = self.n_lists_searched, self.metric == "cosine"
            index.cp.seed = self.random_state % 2**31
            rng = np.random.default_rng(self.random_state)
            some = np.sort(rng.permutation(n)[: 40 * n_lists])
            index.train(x[some] / norms[some, None])
        for rows in row_slices(n, n_rows):
            index.add(x[rows] / norms[rows, None])
        return index

    @property
    def _kind(self) -> int:
        """The metric, as faiss calls it."""
        import faiss

        return int(faiss.METRIC_L2 if self.metric == "euclidean" else faiss.METRIC_INNER_PRODUCT)


def _nearest_of_rows(
    ends: tuple[int, int],
    transformer: FaissTransformer,
    lists: Any,
    x: NDArray[np.float32],
    norms: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return transformer.of_rows(ends, lists, x, norms)


def nearest(h: NDArray[np.float32], n_neighbors: int, *, random_state: int = 0) -> Nearest:
    """The nearest cells of one slide by cosine distance, at most all others."""
    return FaissTransformer(n_neighbors, random_state=random_state).nearest(h)


def nearest_in(h: NDArray[np.float32], others: NDArray[np.float32], n_neighbors: int) -> Nearest:
    """The cells among others ``(m, d)`` that are nearest to each of some cells ``(n, d)`` by cosine distance."""
    return FaissTransformer(n_neighbors).among(h, others)


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
