"""How genes vary together, as a sign of whether cells come from a known tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA

from ipar._chunks import Matrix, as_rows
from ipar._passes import Numbers
from ipar.model.checks import shaped
from ipar.model.io import Arrays, State

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Covariation:
    """A factor model of the genes that vary most, in two halves.

    One half of the genes of a cell tells what the other half should be. Where the cells are of another tissue, or their values
    are noise, it tells nothing.

    Attributes
    ----------
    genes
        Columns of the model's genes, ``(k,)``.
    loadings, noise
        Loadings of the factors, which have unit variance, ``(k, f)``, and variance that they leave, ``(k,)``.
    mean
        Mean expression, ``(k,)``.
    first
        Which genes are in the first half, ``(k,)``.
    """

    genes: NDArray[np.int32]
    loadings: NDArray[np.float32]
    noise: NDArray[np.float32]
    mean: NDArray[np.float32]
    first: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        expression: Sequence[sparse.csr_matrix],
        *,
        n_factors: int = 30,
        most_genes: int = 2000,
        most_cells: int = 5000,
        least_noise: float = 0.05,
        random_state: int = 0,
    ) -> Covariation:
        """Fit slides ``(n_s, n_genes)``, each centred on its mean.

        Parameters
        ----------
        expression
            Log-normalised expression of the slides.
        n_factors
            Factors; fewer with few genes or cells.
        most_genes, most_cells
            Genes, those of the largest variance, and cells per fit.
        least_noise
            Least share of a gene's variance that is noise.
        random_state
            Seed of the cells and of the halves.
        """
        rng = np.random.default_rng(random_state)
        total = sum(x.shape[0] for x in expression)
        rows = [np.sort(rng.permutation(x.shape[0])[: most_cells * x.shape[0] // total + 1]) for x in expression]
        means = [np.asarray(x.mean(axis=0)).ravel() for x in expression]
        squares = [
            np.asarray(x.multiply(x).mean(axis=0)).ravel() - m**2 for x, m in zip(expression, means, strict=True)
        ]
        variance = np.mean(squares, axis=0)
        genes = np.sort(np.argsort(-variance, kind="stable")[: min(most_genes, int((variance > 1e-8).sum()))])
        centred = np.concatenate(
            [x[cells][:, genes].toarray() - m[genes] for x, cells, m in zip(expression, rows, means, strict=True)]
        )
        f = max(1, min(n_factors, len(genes) // 3, len(centred) // 10))
        pca = PCA(f, svd_solver="randomized", random_state=random_state).fit(centred)
        loadings = pca.components_.T * np.sqrt(pca.explained_variance_)
        spread = centred.var(axis=0)
        noise = np.maximum(spread - np.square(loadings).sum(axis=1), least_noise * spread + 1e-6)
        half = rng.permutation(len(genes)) % 2 == 0
        loadings, noise = loadings.astype(np.float32), noise.astype(np.float32)
        return cls(genes.astype(np.int32), loadings, noise, np.mean(means, axis=0)[genes].astype(np.float32), half)

    def sums(self, matrix: Matrix) -> Floats:
        """What the agreement of a slide's cells is made of, ``(n, 3)``; see :func:`agreement`.

        Products of observed and expected genes, squares of the observed and of the expected, over both halves; zeros for cells
        without counts, which do not count in the mean that genes are centred on.
        """
        return self.read(matrix)[0]

    def read(self, matrix: Matrix) -> tuple[Floats, NDArray[np.int32]]:
        """The same, and how many of the genes are detected in each cell, ``(n,)``."""
        x = as_rows(matrix).map(lambda chunk, _: sparse.csr_matrix(chunk[:, self.genes]), len(self.genes))
        detected = x.survey.sizes
        centre = (x.survey.sums / max(int((detected > 0).sum()), 1)).astype(np.float32)
        sums = np.zeros((x.shape[0], 3))
        for own, found in x.each("resemble", _sums_of_rows, self, centre):
            sums[own] = found
        sums[detected == 0] = 0.0
        return sums, detected

    def centred_sums(self, x: sparse.csr_matrix, centre: NDArray[np.float32]) -> Floats:
        """The sums of some cells, with the genes alone that it knows, ``(n, 3)``."""
        weighted, share = self.loadings / self.noise[:, None], 1 / self.noise
        squares = x.multiply(x) @ share - 2 * (x @ (centre * share)) + float(centre**2 @ share)
        sums = np.zeros((x.shape[0], 3))
        sums[:, 1] = np.maximum(squares, 0)
        own = [x[:, half] @ weighted[half] - centre[half] @ weighted[half] for half in (self.first, ~self.first)]
        inner = [self.loadings[half].T @ weighted[half] for half in (self.first, ~self.first)]
        for this, other in ((0, 1), (1, 0)):
            factors = own[this] @ np.linalg.inv(inner[this] + np.eye(len(inner[this])))
            sums[:, 0] += (factors * own[other]).sum(axis=1)
            sums[:, 2] += ((factors @ inner[other]) * factors).sum(axis=1)
        return sums

    def profile(self, matrix: Matrix) -> float:
        """Correlation of the mean expression of a slide with that of the training slides, over genes that it has."""
        own = as_rows(matrix).mean[self.genes]
        measured = own > 0
        if measured.sum() < 3:
            return 0.0
        return float(np.corrcoef(own[measured], self.mean[measured])[0, 1])

    def state(self) -> State:
        """Arrays; there are no settings."""
        names = ("genes", "loadings", "noise", "mean", "first")
        arrays: Arrays = {name: getattr(self, name) for name in names}
        return {}, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Covariation:
        """The object of :meth:`state`."""
        own = shaped(arrays, {"genes": "k", "loadings": "k f", "noise": "k", "mean": "k", "first": "k"})
        return cls(**own | {"first": own["first"].astype(bool)})


def _sums_of_rows(_: Numbers, chunk: sparse.csr_matrix, known: Covariation, centre: NDArray[np.float32]) -> Floats:
    return known.centred_sums(chunk, centre)


def agreement(sums: Floats) -> Floats:
    """Correlation of expected and observed genes, from sums ``(..., 3)`` over cells."""
    found: Floats = sums[..., 0] / np.sqrt(np.maximum(sums[..., 1] * sums[..., 2], 1e-12))
    return found
