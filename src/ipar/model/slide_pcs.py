"""Principal components of slides by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from ipar._chunks import Matrix, Rows, as_rows, row_slices
from ipar.graph.averages import neighbor_average


@dataclass(frozen=True)
class SlidePCs:
    """How principal components of a slide by itself are found.

    A cell's components are drawn towards those of the cells most like it (rows of norm 1): its nearest cells are then true
    neighbours more often (``benchmarks/ablations.md``).

    Attributes
    ----------
    n_components
        Number of components.
    n_steps, n_like
        Steps in which a cell is drawn, and the cells that it is drawn to.
    most_cells
        Cells that the axes are found on: of more cells they take far longer and are the same.
    """

    n_components: int = 100
    n_steps: int = 2
    n_like: int = 15
    most_cells: int = 10_000

    def of(
        self, matrix: Matrix, codes: NDArray[np.int_], gene_scale: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Components of every slide, ``(n, n_components)``, of genes times a scale, as rows of norm 1.

        There are zeros where a slide has fewer.
        """
        scale = np.ones(matrix.shape[1], dtype=np.float32) if gene_scale is None else gene_scale
        matrix, out = as_rows(matrix), np.zeros((len(codes), self.n_components), dtype=np.float32)
        order = matrix.order
        for code in np.unique(codes):
            cells = order[codes[order] == code]
            axes, centre = self._axes(matrix, cells, scale)
            if axes.shape[1]:
                found = matrix.select(np.sort(cells)).dot(axes)[np.argsort(np.argsort(cells))]
                found -= centre
                out[cells, : axes.shape[1]] = self._drawn_together(unit_rows(found))
        return out

    def _axes(
        self, matrix: Rows, cells: NDArray[np.intp], scale: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Axes of a slide ``(n_genes, k)``, and where its mean lies along them ``(k,)``."""
        read = np.sort(np.random.default_rng(0).permutation(len(cells))[: self.most_cells])
        slide = sparse.csr_matrix(matrix.take(cells[read]) @ sparse.diags_array(scale))
        mean, square = (np.asarray(x.mean(axis=0), dtype=np.float64).ravel() for x in (slide, slide.multiply(slide)))
        present = square > 0
        if not (square - mean**2 > 1e-5 * square)[present].any():  # all cells are the same
            return np.zeros((len(scale), 0), dtype=np.float32), np.zeros(0, dtype=np.float32)
        k = max(min(self.n_components, len(read) - 1, int(present.sum()) - 1), 0)
        axes = np.zeros((len(scale), k), dtype=np.float32)
        if k == 0:
            return axes, np.zeros(0, dtype=np.float32)
        pca = PCA(k, svd_solver="arpack", random_state=0).fit(slide[:, present])
        axes[present] = pca.components_.T * scale[present, None]
        return axes, (pca.mean_ @ pca.components_.T).astype(np.float32)

    def _drawn_together(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        average = neighbor_average(x, None, self.n_like)
        for _ in range(self.n_steps):
            drawn = np.empty_like(x)
            for rows in row_slices(len(x)):
                drawn[rows] = unit_rows(x[rows] + unit_rows(average[rows] @ x))
            x = drawn
        return x


def unit_rows(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to norm 1; zeros stay."""
    scaled = np.empty(x.shape, dtype=np.float32)
    for rows in row_slices(len(x)):
        scaled[rows] = x[rows] / np.maximum(np.linalg.norm(x[rows], axis=1, keepdims=True), 1e-12)
    return scaled
