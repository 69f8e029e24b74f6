"""The nearest cells of each cell by faiss, as lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._chunks import row_slices
from ipar._cluster import pool


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
        return self._sorted(x[own], x, (norms[own], norms), without_itself(found, own), k)

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


def without_itself(found: NDArray[np.int64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """Neighbours of some points ``(m, k + 1)``, which are rows ``own``, without themselves, ``(m, k)``.

    Among many points in one place, a point may not find itself: its last neighbour is then left out.
    """
    itself = found == own[:, None]
    itself[~itself.any(axis=1), -1] = True
    others: NDArray[np.int64] = found[~itself].reshape(len(found), -1)
    return others
