"""Cells matched with the places of a reference, and genes centred on what both share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import normalize

from ipar._chunks import Matrix, as_rows
from ipar._options import Checked, Count
from ipar.graph.nearest import Nearest, nearest, nearest_in
from ipar.model.given import Encoder
from ipar.model.reference import Reference


@dataclass(frozen=True)
class Matching(Checked):
    r"""How cells are matched with places in feature space.

    A cell i matches places j with weights :math:`w_{ij} \propto \exp(-(d_{ij} - \min_j d_{ij}) / \sigma)` of the cosine
    distance d. Matches are sought from the cells and from the places, so that each place has some.

    Attributes
    ----------
    n_matches
        Places per cell, and cells per place.
    width
        σ.
    least_weight
        Weight of a place that does not match, in a balanced map.
    negligible
        Weights of a balanced map that are left out, as a share of the cell's largest.
    """

    n_matches: int = 30
    width: float = 0.05
    least_weight: float = 1e-9
    negligible: float = 1e-3

    def find(
        self, features: NDArray[np.float32], known: NDArray[np.float32]
    ) -> tuple[sparse.csr_matrix, NDArray[np.float32]]:
        """Weights of cells ``(n, d)`` among places ``(m, d)``, CSR ``(n, m)`` with rows that sum to 1.

        The cosine similarity of each cell and its best match comes second, ``(n,)``.
        """
        there, back = nearest_in(features, known, self.n_matches), nearest_in(known, features, self.n_matches)
        best = there.distance[:, 0]
        graph = there.graph(len(known)).maximum(back.graph(len(features)).T).tocsr()
        row = np.repeat(np.arange(len(features)), np.diff(graph.indptr))
        graph.data = np.exp(-(graph.data - best[row]) / self.width)
        return unit_sums(graph), 1 - best

    def within(self, features: NDArray[np.float32]) -> sparse.csr_matrix:
        """Weights of the cells of one slide ``(n, d)`` among each other, without themselves, CSR ``(n, n)``."""
        near = nearest(features, self.n_matches)
        weight = np.exp(-(near.distance - near.distance[:, :1]) / self.width)
        return unit_sums(Nearest(near.index, weight).graph())

    def balanced(self, weights: sparse.csr_matrix, most_entries: int = 20_000_000) -> sparse.csr_matrix:
        """The weights of the entropic transport plan between cells and places, each of equal mass.

        It is the plan nearest to the given weights ``(n, m)``. Entries below a thousandth of a cell's largest are left out.

        Raises
        ------
        ImportError
            If POT is missing.
        ValueError
            If there are more entries than ``most_entries``.

        References
        ----------
        Flamary et al., POT: Python Optimal Transport, Journal of Machine Learning Research 22 (2021).
        """
        try:
            import ot
        except ImportError as error:
            msg = "balanced=True needs POT: install it with pip install 'ipar[ot]'."
            raise ImportError(msg) from error
        n, m = weights.shape
        if n * m > most_entries:
            msg = (
                f"balanced=True takes at most {most_entries} cells times places, found {n} times {m}: map fewer cells at a "
                "time, or leave it out."
            )
            raise ValueError(msg)
        cost = -np.log(np.maximum(weights.toarray().astype(np.float64), self.least_weight))
        plan = ot.sinkhorn(np.full(n, 1 / n), np.full(m, 1 / m), cost, 1.0)
        plan[plan < self.negligible * plan.max(axis=1, keepdims=True)] = 0
        return unit_sums(sparse.csr_matrix(plan))


def row_sums(weights: sparse.csr_matrix) -> NDArray[np.float64]:
    """Sum of every row."""
    return np.asarray(weights.sum(axis=1), dtype=np.float64).ravel()


def unit_sums(weights: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same with rows that sum to 1; empty rows stay."""
    return sparse.csr_matrix(normalize(weights, norm="l1"), dtype=np.float32)


@dataclass(frozen=True)
class Centring(Checked):
    r"""How the genes of a query are centred: on the states that it shares with the training slides.

    The mean of a slide holds the batch, which must go, and the composition, which must not: a query of one cell type,
    centred on its own mean, would look like a whole tissue. So the centre is the query's mean less what its cells are
    expected to deviate from the mean of the training slides, as their matches say,

    .. math:: c = \frac{n (\bar x - \bar e) + n_0 \mu}{n + n_0}

    where :math:`\bar e` starts at zero and is found anew with every round of matches, and μ, the mean of the training
    slides, stands in for few cells.

    Attributes
    ----------
    n_rounds
        Rounds. After many, queries of a few types may drift away.
    n_prior
        :math:`n_0`, in cells.
    least_gain
        The shift is kept if cells and matches then differ less by this share of one minus their similarity. It is below 0.04
        for whole sections and mostly above 0.1 for halves and for single cell types.
    most_cells
        Cells of a query, and of the reference, that are matched.
    matching
        How they are matched.

    References
    ----------
    Corrections on matched cells: Haghverdi et al., Nature Biotechnology 36 (2018).
    """

    n_rounds: int = 2
    n_prior: float = 5.0
    least_gain: float = 0.05
    most_cells: Count = 3000
    matching: Matching = field(default_factory=Matching)

    def centre(
        self, encoder: Encoder, reference: Reference, matrix: Matrix, present: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """The centre of one slide, ``(n_genes,)``.

        Parameters
        ----------
        encoder, reference
            Those of the model.
        matrix
            Expression in the encoder's order of genes, ``(n, n_genes)``.
        present
            Which genes were measured, ``(n_genes,)``; the others stay at zero.
        """
        matrix = as_rows(matrix)
        known, n = reference.sample(self.most_cells), matrix.shape[0]
        some = matrix.take(matrix.order[np.sort(np.random.default_rng(0).permutation(n)[: self.most_cells])])
        mean = matrix.mean
        share = n / (n + self.n_prior)

        def centred(expected: NDArray[np.float32] | float) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
            """The centre, the mean features of the matches, and their mean similarity."""
            centre = (present * (share * (mean - expected) + (1 - share) * reference.mean)).astype(np.float32)
            features = reference.project(encoder.features_of_slide(some, centre).embedding)
            weights, similarity = self.matching.find(features, known)
            return centre, np.asarray(weights.mean(axis=0)).ravel() @ known, float(similarity.mean())

        first = last = centred(0.0)
        for _ in range(self.n_rounds):
            last = centred(reference.expected(last[1]))
        gain = (last[2] - first[2]) / max(1 - first[2], 1e-12)
        return (last if gain >= self.least_gain else first)[0]
