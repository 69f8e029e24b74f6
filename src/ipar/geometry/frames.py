"""The similarity that carries a layout onto places that were found for its cells, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import norm
from sklearn.cluster import KMeans

from ipar._options import Checked

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Similarity:
    """Rotation or reflection, scale and shift in the plane.

    Attributes
    ----------
    rotation
        Orthogonal matrix, ``(2, 2)``.
    scale
        Factor.
    source, target
        A point, ``(2,)``, and where it goes.
    """

    rotation: FloatArray
    scale: float
    source: FloatArray
    target: FloatArray

    def apply(self, x: NDArray[np.floating]) -> FloatArray:
        """Carry points ``(n, 2)``."""
        carried: FloatArray = self.scale * (x - self.source) @ self.rotation + self.target
        return carried

    @property
    def mirrored(self) -> bool:
        """Whether it turns left into right."""
        return bool(np.linalg.det(self.rotation) < 0)


@dataclass(frozen=True)
class Frame:
    """A similarity that was found.

    Attributes
    ----------
    similarity
        The best.
    certainty
        Probability that no other reflection or rotation fits better, as regions of the tissue bear witness one by one; near
        0.5 where another fits as well. Layout and matches that come from one encoder may agree by mistake.
    """

    similarity: Similarity
    certainty: float


@dataclass(frozen=True)
class FrameSearch(Checked):
    """How the similarity is found.

    Every match of a cell is a witness, and those far from where the similarity puts the cell count little (Cauchy weights).
    The search starts from every orientation, so that the best can be compared with others.

    Attributes
    ----------
    reach
        Distance from which on a match counts less, in RMS radii of the places.
    n_rounds
        Rounds of reweighting.
    n_rotations
        Rotations that are started from, with and without reflection.
    n_images
        Rotations, and reflections, of the best that it is compared with.
    n_regions
        Regions of the layout whose witness is compared.
    least_turn
        Angle from which on two rotations are different answers, in degrees.
    """

    reach: float = 0.3
    n_rounds: int = 15
    n_rotations: int = 4
    n_images: int = 12
    n_regions: int = 30
    least_turn: float = 60.0

    def find(
        self,
        layout: NDArray[np.floating],
        places: NDArray[np.floating],
        weights: sparse.csr_matrix,
        random_state: int = 0,
    ) -> Frame:
        """Find it.

        Parameters
        ----------
        layout
            Coordinates of cells, ``(n, 2)``.
        places
            Places, ``(m, 2)``.
        weights
            How much each place matches each cell, CSR ``(n, m)``.
        random_state
            Seed of the regions.
        """
        given = _Matched(
            np.asarray(layout, dtype=np.float64), np.asarray(places, dtype=np.float64), weights, self.reach
        )
        found = [self._refined(start, given) for start in self._starts(given)]
        first = min(found, key=lambda one: float(given.losses(one).mean()))
        found += [self._refined(image, given) for image in self._images(first, given.places.mean(axis=0))]
        losses = [given.losses(one) for one in found]
        order = np.argsort([loss.mean() for loss in losses])
        best = found[order[0]]
        n_regions = min(self.n_regions, len(np.unique(given.layout, axis=0)))
        regions = KMeans(n_regions, n_init=1, random_state=random_state).fit_predict(given.layout)
        others = [i for i in order[1:] if self._differ(found[i].rotation, best.rotation)]
        doubts = [_witness(losses[i] - losses[order[0]], regions) for i in others]
        return Frame(best, min(doubts, default=1.0))

    def _starts(self, given: _Matched) -> Iterator[Similarity]:
        for mirrored in (False, True):
            first = given.similarity(given.weights.data, mirrored)
            for angle in 2 * np.pi * np.arange(self.n_rotations) / self.n_rotations:
                turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
                yield replace(first, rotation=first.rotation @ turn)

    def _images(self, found: Similarity, centre: FloatArray) -> Iterator[Similarity]:
        """A similarity followed by every reflection and rotation about the centre of the places.

        One of these is as good as the similarity itself where the tissue is symmetric.
        """
        for angle in 2 * np.pi * np.arange(self.n_images) / self.n_images:
            cos, sin = np.cos(angle), np.sin(angle)
            for change in (np.array([[cos, sin], [-sin, cos]]), np.array([[cos, sin], [sin, -cos]])):
                target = (found.target - centre) @ change + centre
                yield replace(found, rotation=found.rotation @ change, target=target)

    def _refined(self, start: Similarity, given: _Matched) -> Similarity:
        """The nearest optimum of the robust fit."""
        found = start
        for _ in range(self.n_rounds):
            found = given.similarity(given.weights.data / (1 + given.square(found)), start.mirrored)
        return found

    def _differ(self, one: FloatArray, other: FloatArray) -> bool:
        turn = one.T @ other
        return bool(np.linalg.det(turn) < 0 or turn[0, 0] < np.cos(np.deg2rad(self.least_turn)))


class _Matched:
    """Cells and the places that they match, match by match."""

    def __init__(self, layout: FloatArray, places: FloatArray, weights: sparse.csr_matrix, reach: float) -> None:
        self.layout, self.places, self.weights = layout, places, weights
        self.row = np.repeat(np.arange(len(layout)), np.diff(weights.indptr))
        self.place = places[weights.indices]
        self.unit = (reach * _radius(self.place, weights.data)) ** 2

    def square(self, found: Similarity) -> FloatArray:
        """Squared distance of every match from where its cell is carried, in units of the reach."""
        gap = self.place - found.apply(self.layout)[self.row]
        squares: FloatArray = np.square(gap).sum(axis=1) / self.unit
        return squares

    def losses(self, found: Similarity) -> FloatArray:
        """Robust loss of every cell."""
        loss = self.weights.data * np.log1p(self.square(found))
        losses: FloatArray = np.bincount(self.row, loss, minlength=len(self.layout)).astype(np.float64)
        return losses

    def similarity(self, weight: NDArray[np.floating], mirrored: bool) -> Similarity:
        """The best with a weight for every match."""
        total = np.maximum(np.bincount(self.row, weight, minlength=len(self.layout)), 1e-12)
        sums = [np.bincount(self.row, weight * x, minlength=len(self.layout)) for x in self.place.T]
        return weighted_similarity(self.layout, np.stack(sums, axis=1) / total[:, None], total, mirrored=mirrored)


def weighted_similarity(
    source: FloatArray, target: FloatArray, weights: NDArray[np.floating], *, mirrored: bool | None = None
) -> Similarity:
    """The similarity of the least weighted sum of squares, with reflection, without, or whichever is better (None).

    Takes points ``(n, 2)`` and weights ``(n,)``.

    References
    ----------
    Umeyama, IEEE Transactions on Pattern Analysis and Machine Intelligence 13 (1991).
    """
    share = weights / weights.sum()
    centre, to = share @ source, share @ target
    x, y = source - centre, target - to
    left, singular, right = np.linalg.svd((x * share[:, None]).T @ y)
    if mirrored is not None and (np.linalg.det(left @ right) < 0) != mirrored:
        left = left * np.array([1.0, -1.0])
        singular = singular * np.array([1.0, -1.0])
    spread = float((share * np.square(x).sum(axis=1)).sum())
    return Similarity(left @ right, float(singular.sum()) / max(spread, 1e-12), centre, to)


def _witness(advantage: FloatArray, regions: NDArray[np.integer]) -> float:
    """Probability that the mean advantage over regions is above zero."""
    means = np.bincount(regions, advantage) / np.maximum(np.bincount(regions), 1)
    error = means.std(ddof=1) / len(means) ** 0.5 if len(means) > 1 else 0.0
    return float(norm.cdf(means.mean() / max(error, 1e-12)))


def _radius(points: FloatArray, weights: NDArray[np.floating]) -> float:
    share = weights / weights.sum()
    return float(np.sqrt((share * np.square(points - share @ points).sum(axis=1)).sum()))
