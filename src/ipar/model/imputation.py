"""Expression at places from the cells that are mapped onto them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV


@dataclass(frozen=True)
class Imputation:
    """How genes that places lack are predicted from cells.

    A place takes the mean of its cells. These match it roughly: where its measured genes differ from theirs, the other genes
    differ too, as a ridge regression among the cells says.

    Attributes
    ----------
    n_components
        Principal components of the genes that both have, from which the others are regressed.
    most_cells
        Cells that the regression is fitted on, drawn at random.
    penalties
        Penalties that generalised cross-validation chooses from for every gene, relative to the variance of the components.
    n_genes
        Genes regressed at a time: their expression is dense.

    References
    ----------
    Means of matches, corrected by a regression: Abadie & Imbens, Journal of Business & Economic Statistics 29 (2011).
    """

    n_components: int = 100
    most_cells: int = 5000
    penalties: tuple[float, ...] = tuple(10.0 ** np.arange(-3, 3.5, 0.5))
    n_genes: int = 500

    def of(
        self,
        weights: sparse.csr_matrix,
        cells: sparse.csr_matrix,
        shared: tuple[sparse.csr_matrix, sparse.csr_matrix] | None = None,
        random_state: int = 0,
    ) -> NDArray[np.float32]:
        """Expression of genes at places, ``(m, n_genes)``; without ``shared``, the mean of the cells.

        Parameters
        ----------
        weights
            Weights of the cells for each place, CSR ``(m, n)`` with rows that sum to 1.
        cells
            Expression of the genes in the cells, CSR ``(n, n_genes)``.
        shared
            Expression of genes that both have, at the places ``(m, k)`` and in the cells ``(n, k)``. Either is centred on its
            own mean, which holds the technology.
        random_state
            Seed of the cells that the regression is fitted on.
        """
        mean: NDArray[np.float32] = (weights @ cells).toarray().astype(np.float32)
        if shared is None or min(shared[1].shape) < 3:
            return mean
        places, own = shared
        fitted = np.sort(np.random.default_rng(random_state).permutation(own.shape[0])[: self.most_cells])
        axes = self._axes(own[fitted])
        scores = (own @ axes) - np.asarray(own.mean(axis=0)).ravel() @ axes
        gap = (places @ axes - np.asarray(places.mean(axis=0)).ravel() @ axes) - weights @ scores
        gap[np.diff(weights.indptr) == 0] = 0.0  # places without cells stay empty
        size = len(fitted) * float(scores[fitted].var(axis=0).mean())
        for genes, known in self._dense(cells[fitted]):
            ridge = RidgeCV(np.array(self.penalties) * size, alpha_per_target=True).fit(scores[fitted], known)
            mean[:, genes] += gap @ np.atleast_2d(ridge.coef_).T
        return np.maximum(mean, 0.0)

    def _axes(self, x: sparse.csr_matrix) -> NDArray[np.floating]:
        """Principal axes, ``(k, n_components)``."""
        few = x.shape[1] <= 1000  # the covariance of more genes takes longer than single axes
        solver = {"svd_solver": "covariance_eigh"} if few else {"svd_solver": "arpack", "random_state": 0}
        pca = PCA(min(self.n_components, x.shape[0] - 1, x.shape[1] - (not few)), **solver).fit(x)
        axes: NDArray[np.floating] = pca.components_.T
        return axes

    def _dense(self, expression: sparse.csr_matrix) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        for start in range(0, expression.shape[1], self.n_genes):
            genes = slice(start, start + self.n_genes)
            yield genes, expression[:, genes].toarray()
