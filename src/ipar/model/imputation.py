"""Expression at places from the cells that are mapped onto them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Shared:
    """Expression of genes that places and cells both have, CSR ``(m, k)`` and ``(n, k)``."""

    places: sparse.csr_matrix
    cells: sparse.csr_matrix

    def genes(self, chosen: NDArray[np.bool_]) -> Shared:
        """Some of the genes."""
        return Shared(self.places[:, chosen], self.cells[:, chosen])

    def rows(self, chosen: NDArray[np.intp]) -> Shared:
        """All genes at some of the places."""
        return Shared(self.places[chosen], self.cells)


@dataclass(frozen=True)
class Shares:
    """How much map and regression count, and how well they did on held-out genes.

    Attributes
    ----------
    of_map
        From 0, the mean of all cells for every place, to 1, the mean of the cells that are mapped onto it.
    of_regression
        Share of the correction.
    pearson
        Median Pearson correlation over places of predicted and measured genes, each held out in turn; NaN if there were none.
    """

    of_map: float = 1.0
    of_regression: float = 0.0
    pearson: float = float("nan")


@dataclass(frozen=True)
class Imputation:
    r"""How genes that places lack are predicted from cells.

    A place takes the mean of its cells. These match it roughly: where its measured genes differ from theirs, the other genes
    differ too, as a ridge regression among the cells says. With a mean over all cells :math:`\bar y`, the mean of a place's
    cells :math:`y`, and scores of shared genes of the place and of the mean, x and :math:`x_m`, the prediction is

    .. math:: \bar y + \alpha (y - \bar y) + \beta B (x - \alpha x_m)

    Both shares are chosen on genes that were measured on either side, and held out in turn: how much a map or a measured
    profile tells depends on the noise of the section.

    Attributes
    ----------
    n_components
        Principal components of the genes that both have, from which the others are regressed.
    most_cells
        Cells that the regression is fitted on, drawn at random.
    penalties
        Penalties that generalised cross-validation chooses from for every gene, relative to the variance of the components.
    shares
        Pairs of α and β to choose from; one of the two is 1, since correlations do not see a common scale.
    n_folds, most_places, most_genes
        Folds of genes that are held out, and how many places and genes the shares are scored on at most.
    least_shared
        With fewer shared genes, places take plain means.
    chunk
        Genes regressed at a time: their expression is dense.

    References
    ----------
    Means of matches, corrected by a regression: Abadie & Imbens, Journal of Business & Economic Statistics 29 (2011).
    """

    n_components: int = 100
    most_cells: int = 5000
    penalties: tuple[float, ...] = tuple(10.0 ** np.arange(-3, 3.5, 0.5))
    shares: tuple[tuple[float, float], ...] = (
        *((1.0, beta) for beta in (0.0, 0.25, 0.5, 0.75, 1.0)),
        *((alpha, 1.0) for alpha in (0.75, 0.5, 0.25, 0.0)),
    )
    n_folds: int = 3
    most_places: int = 3000
    most_genes: int = 300
    least_shared: int = 30
    chunk: int = 500

    def of(
        self,
        weights: sparse.csr_matrix,
        wanted: sparse.csr_matrix,
        shared: Shared | None = None,
        random_state: int = 0,
    ) -> tuple[NDArray[np.float32], Shares]:
        """Expression of genes at places, ``(m, n_genes)``, and the shares that were chosen; plain means without ``shared``.

        Parameters
        ----------
        weights
            Weights of the cells for each place, CSR ``(m, n)`` with rows that sum to 1; places without cells stay empty.
        wanted
            Expression of the genes in the cells, CSR ``(n, n_genes)``.
        shared
            Expression of genes that both have. Either side is centred on its own mean, which holds the technology.
        random_state
            Seed of the held-out genes and of the cells and places that are drawn.
        """
        if shared is None or shared.cells.shape[1] < self.least_shared or shared.cells.shape[0] < self.n_folds:
            return (weights @ wanted).toarray().astype(np.float32), Shares()
        rng = np.random.default_rng(random_state)
        shares = self._chosen(weights, shared, rng)
        found = np.concatenate(
            [
                parts.mixed(shares.of_map, shares.of_regression)
                for _, parts in self._predicted(weights, wanted, shared, rng)
            ],
            axis=1,
        )
        found[np.diff(weights.indptr) == 0] = 0.0
        return np.maximum(found, 0.0).astype(np.float32), shares

    def _chosen(self, weights: sparse.csr_matrix, shared: Shared, rng: np.random.Generator) -> Shares:
        """The shares of the best median correlation over held-out genes."""
        mapped = np.flatnonzero(np.diff(weights.indptr))
        places = np.sort(rng.permutation(mapped)[: self.most_places])
        some, weights = shared.rows(places), weights[places]
        fold = rng.permutation(shared.cells.shape[1]) % self.n_folds
        scores: dict[tuple[float, float], list[Floats]] = {pair: [] for pair in self.shares}
        for i in range(self.n_folds):
            held_out = np.flatnonzero(fold == i)
            held_out = np.sort(rng.permutation(held_out)[: self.most_genes // self.n_folds])
            own, truth = some.cells[:, held_out], some.places[:, held_out].toarray()
            for genes, parts in self._predicted(weights, own, some.genes(fold != i), rng):
                for pair, known in scores.items():
                    known.append(_correlations(parts.mixed(*pair), truth[:, genes]))
        medians = {pair: float(np.median(np.concatenate(known))) for pair, known in scores.items()}
        best = max(medians, key=lambda pair: medians[pair])
        return Shares(*best, medians[best])

    def _predicted(
        self, weights: sparse.csr_matrix, wanted: sparse.csr_matrix, shared: Shared, rng: np.random.Generator
    ) -> Iterator[tuple[slice, _Parts]]:
        """What predictions of the wanted genes are mixed of, chunk by chunk."""
        fitted = np.sort(rng.permutation(wanted.shape[0])[: self.most_cells])
        axes = self._axes(shared.cells[fitted])
        places, cells = (x @ axes - np.asarray(x.mean(axis=0)) @ axes for x in (shared.places, shared.cells))
        of_map, known = weights @ cells, cells[fitted]
        penalties = np.array(self.penalties) * (len(known) * float(known.var(axis=0).mean()))
        for start in range(0, wanted.shape[1], self.chunk):
            genes = slice(start, start + self.chunk)
            own = wanted[:, genes]
            ridge = RidgeCV(penalties, alpha_per_target=True).fit(known, own[fitted].toarray())
            b = np.atleast_2d(ridge.coef_).T
            yield genes, _Parts(np.asarray(own.mean(axis=0)), (weights @ own).toarray(), places @ b, of_map @ b)

    def _axes(self, x: sparse.csr_matrix) -> Floats:
        """Principal axes, ``(k, n_components)``."""
        few = x.shape[1] <= 1000  # the covariance of more genes takes longer than single axes
        solver = {"svd_solver": "covariance_eigh"} if few else {"svd_solver": "arpack", "random_state": 0}
        axes: Floats = (
            PCA(min(self.n_components, x.shape[0] - 1, x.shape[1] - (not few)), **solver).fit(x).components_.T
        )
        return axes


@dataclass(frozen=True)
class _Parts:
    """Mean of all cells ``(1, g)``, means of the cells of places, and what is regressed for either, ``(m, g)``."""

    everywhere: Floats
    of_map: Floats
    regressed: Floats
    regressed_of_map: Floats

    def mixed(self, share_of_map: float, share_of_regression: float) -> Floats:
        """The prediction, ``(m, g)``."""
        mean = self.everywhere + share_of_map * (self.of_map - self.everywhere)
        mixed: Floats = mean + share_of_regression * (self.regressed - share_of_map * self.regressed_of_map)
        return mixed


def _correlations(one: Floats, other: Floats) -> Floats:
    """Pearson correlation of every column; 0 where one does not vary."""
    a, b = one - one.mean(axis=0), other - other.mean(axis=0)
    size = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    found: Floats = np.where(size > 1e-9, (a * b).sum(axis=0) / np.maximum(size, 1e-9), 0.0)
    return found
