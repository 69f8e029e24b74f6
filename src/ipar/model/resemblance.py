"""Does a query resemble the training slides? Absolute signs, kept from left-out training cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipar._chunks import Matrix, as_rows, row_slices
from ipar._options import NonNegative, checked
from ipar.graph.nearest import Nearest, nearest, nearest_in
from ipar.model.checks import check_width, shaped
from ipar.model.covariation import Covariation, agreement
from ipar.model.io import State, arrays_under
from ipar.model.slide_pcs import unit_rows

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Signs:
    """Absolute signs of the cells of one slide.

    Attributes
    ----------
    cells
        Agreement of one half of the genes with the other around each cell, cosine similarity to the most similar training
        cell, and logarithm of its detected genes over those of a training cell, ``(n, 3)``.
    agreement, profile
        The agreement over all cells, and the correlation of mean expression with that of the training slides.
    """

    cells: Floats
    agreement: float
    profile: float

    @property
    def slide(self) -> Floats:
        """Agreement and profile on Fisher's scale, ``(2,)``."""
        found: Floats = np.arctanh(np.clip([self.agreement, self.profile], -0.999, 0.999))
        return found


@dataclass(frozen=True)
class Known:
    """What signs are measured against.

    Attributes
    ----------
    covariation
        How the genes of the training slides vary together.
    landmarks
        Embeddings of training cells, unit rows, float16, ``(l, e)``.
    n_detected
        Median of a training cell's detected genes, among those of the covariation.
    """

    covariation: Covariation
    landmarks: NDArray[np.float16]
    n_detected: float

    def check_sizes(self, width: int, n_genes: int) -> None:
        """Raise ValueError unless embeddings are so wide, and genes among so many."""
        check_width("width of the landmarks", self.landmarks.shape[1], width)
        genes = self.covariation.genes
        if len(genes) and not 0 <= genes.min() <= genes.max() < n_genes:
            msg = f"The covariation is of genes beyond the {n_genes} of the model"
            raise ValueError(msg)

    def signs(
        self,
        matrix: Matrix,
        embedding: NDArray[np.float32],
        near: Nearest | None = None,
        *,
        rows: NDArray[np.int64] | slice = slice(None),
        n_neighbors: int = 15,
        deepest: float = 0.5,
    ) -> Signs:
        """Signs of one slide.

        Parameters
        ----------
        matrix
            Log-normalised expression in the encoder's order of genes, ``(n, n_genes)``.
        embedding
            Its embedding, ``(n, e)``.
        near
            The nearest cells in the embedding; sought, if None.
        rows
            Rows of the matrix that the rows of the embedding stand for.
        n_neighbors
            Nearest cells whose genes are read together with those of a cell: of a single one, too few are detected.
        deepest
            Cells with more detected genes than this, on the scale of the sign, count as having so many.
        """
        matrix = as_rows(matrix)
        n = matrix.shape[0]
        sums, detected = self.covariation.read(matrix)
        sums, detected = sums[rows], detected[rows]
        k = min(n_neighbors, n - 1)
        if k > 0:
            near = nearest(embedding, k) if near is None or near.index.shape[1] < k else near.first(k)
        landmarks, cells = self.landmarks.astype(np.float32), np.empty((n, 3))
        for some in row_slices(n):
            around = sums[some] if near is None or k == 0 else sums[some] + sums[near.index[some]].sum(axis=1)
            cells[some, 0] = agreement(around)
            cells[some, 1] = 1 - nearest_in(embedding[some], landmarks, 1).distance[:, 0]
        cells[:, 2] = np.minimum(np.log((1 + detected) / (1 + self.n_detected)), deepest)
        return Signs(cells, float(agreement(sums.sum(axis=0))), self.covariation.profile(matrix))

    def state(self) -> State:
        """Settings and arrays."""
        arrays = {f"covariation.{name}": value for name, value in self.covariation.state()[1].items()}
        return {"n_detected": self.n_detected}, arrays | {"landmarks": self.landmarks}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Known:
        """The object of :meth:`state`."""
        covariation = Covariation.from_state({}, arrays_under(arrays, "covariation"))
        return cls(
            covariation,
            shaped(arrays, {"landmarks": "l e"})["landmarks"],
            **checked(config, {"n_detected": NonNegative}),
        )


def landmarks_of(embedding: NDArray[np.float32], n: int, random_state: int = 0) -> NDArray[np.float16]:
    """A random part of the rows of an embedding, scaled to norm 1."""
    rows = np.sort(np.random.default_rng(random_state).permutation(len(embedding))[:n])
    return unit_rows(embedding[rows]).astype(np.float16)


@dataclass(frozen=True)
class Resemblance:
    r"""How a query compares with training slides that were left out.

    **A slide** has two signs: how well one half of its genes tells the other, and how well its mean expression correlates
    with the training slides. Its distance is the root of the sum of squares of what it falls short of left-out slides, in
    their standard deviations.

    **A cell** belongs as much as the share of left-out cells that look less like the training cells, by the lesser of the ranks
    of its agreement and its similarity.

    **The expected error** :math:`e_0` holds for queries like the left-out slides. For others, a share g of what is known is
    left,

    .. math:: e^2 = 1 - g\,(1 - e_0^2)

    in RMS radii of the tissue: cells of which nothing is known are expected a radius away. g is a monotone function of the
    signs, learned on left-out cells whose counts were thinned out, and whose genes were shuffled. It reads how well genes
    agree, but not the mean expression: where that alone falls short by more than the threshold, g falls with the square of it.

    Attributes
    ----------
    known
        What signs are measured against.
    slides
        Signs of left-out slides on Fisher's scale, ``(s, 2)``.
    least_spread, least_share
        Least standard deviations of these, and as shares of their means, whichever is less: slides of one animal are more
        alike than those of several.
    threshold
        Distance above which a query is called foreign.
    cells
        Quantiles of the left-out cells' agreement, similarity, and lesser rank, ``(3, q)``.
    centre, weights
        Of the linear function of a cell's signs, ``(3,)`` each.
    knots
        Values of it and the g that belong to them, both rising, ``(2, q)``.
    """

    known: Known
    slides: Floats
    threshold: float
    cells: Floats
    centre: Floats
    weights: Floats
    knots: Floats
    least_spread: tuple[float, float] = (0.07, 0.35)
    least_share: float = 0.25

    def distance(self, signs: Signs, *, adapted: bool = False) -> float:
        """How far a slide falls short of left-out ones; of adapted cells, the mean expression does not count."""
        short = self.shortfall(signs)
        return float(short[0] if adapted else np.linalg.norm(short))

    def shortfall(self, signs: Signs) -> Floats:
        """By how many standard deviations agreement and profile fall short of left-out slides, ``(2,)``."""
        return shortfall(signs.slide, self.slides, self.least_spread, self.least_share)

    def belongs(self, signs: Signs) -> NDArray[np.float32]:
        """Share of left-out cells that look less like the training cells than each cell, ``(n,)``."""
        return rank_among(lesser_rank(signs.cells, self.cells), self.cells[2]).astype(np.float32)

    def kept(self, signs: Signs, *, adapted: bool = False) -> Floats:
        """What share g is left of each cell, ``(n,)``."""
        short = 0.0 if adapted else float(self.shortfall(signs)[1])
        whole = min(1.0, self.threshold / max(short, 1e-12)) ** 2
        found: Floats = whole * np.interp((signs.cells - self.centre) @ self.weights, *self.knots)
        return found

    def error(
        self, expected: NDArray[np.floating], signs: Signs, *, adapted: bool = False, least: float = 0.02
    ) -> NDArray[np.float32]:
        """Expected errors of cells like the left-out ones ``(n,)``, as they are for these cells."""
        square = 1 - self.kept(signs, adapted=adapted) * (1 - np.square(expected))
        error: NDArray[np.float32] = np.sqrt(np.maximum(square, least)).astype(np.float32)
        return error

    def state(self) -> State:
        """Settings and arrays."""
        config, arrays = self.known.state()
        own = {name: np.asarray(getattr(self, name)) for name in _ARRAYS}
        settings = {"known": config, "threshold": self.threshold, "least_share": self.least_share}
        settings["least_spread"] = list(self.least_spread)
        return settings, {f"known.{name}": value for name, value in arrays.items()} | own

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Resemblance:
        """The object of :meth:`state`."""
        known = Known.from_state(config["known"], arrays_under(arrays, "known"))
        own: dict[str, Any] = shaped(arrays, _ARRAYS)
        own |= checked(
            config, {"threshold": NonNegative, "least_share": NonNegative, "least_spread": tuple[float, float]}
        )
        return cls(known, **own | {"least_spread": tuple(own["least_spread"])})


_ARRAYS = {"slides": "s 2", "cells": "3 q", "centre": "3", "weights": "3", "knots": "2 k"}


def shortfall(signs: Floats, others: Floats, least_spread: tuple[float, float], least_share: float) -> Floats:
    """By how many standard deviations signs ``(2,)`` are below those of other slides ``(s, 2)``."""
    mean = others.mean(axis=0)
    least = np.maximum(np.minimum(least_spread, least_share * mean), 1e-3)
    spread = np.maximum(others.std(axis=0, ddof=1) if len(others) > 1 else 0.0, least)
    found: Floats = np.maximum((mean - signs) / spread, 0.0)
    return found


def lesser_rank(cells: Floats, quantiles: Floats) -> Floats:
    """The lesser rank of agreement and similarity among left-out cells, ``(n,)``."""
    ranks = [rank_among(cells[:, i], quantiles[i]) for i in (0, 1)]
    return np.minimum(*ranks)


def rank_among(values: Floats, quantiles: Floats) -> Floats:
    """Share of a distribution, given by evenly spaced quantiles, that lies below each value."""
    levels = np.linspace(0, 1, len(quantiles))
    found: Floats = np.interp(values, quantiles, levels, left=0.0, right=1.0)
    return found
