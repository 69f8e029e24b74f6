"""Cells on a reference slide: what they match there, the frame of their layout, and the places of the tissue."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._options import Checked, Count, Share
from ipar.geometry.frames import Frame, FrameSearch
from ipar.geometry.transport import covered_places, transported
from ipar.model.matching import Matching, row_sums, unit_sums
from ipar.model.reference import ReferenceSlide

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class OnReference:
    """Cells on a reference slide.

    Attributes
    ----------
    coords
        Coordinates in the slide's frame and units, ``(n, 2)``.
    weights
        How much each place of the slide matches each cell, CSR ``(n, m)``; rows sum to 1.
    confidence
        From 0, where a cell matches places all over the tissue, to 1, where it matches one, ``(n,)``.
    similarity
        Cosine similarity of a cell and its best match, ``(n,)``.
    frame
        How the layout was carried into the frame; None for cells without a layout.
    shift
        Distance of the mean features of the matches from the mean of the slide, in RMS norms of the features: large for
        queries of some parts or cell types of the tissue only.
    """

    coords: FloatArray
    weights: sparse.csr_matrix
    confidence: NDArray[np.float32]
    similarity: NDArray[np.float32]
    frame: Frame | None
    shift: float

    @property
    def radius(self) -> float:
        """Length of an RMS radius of the layout in the slide's units; NaN without a layout."""
        return float("nan") if self.frame is None else self.frame.similarity.scale


@dataclass(frozen=True)
class Placement(Checked):
    r"""How cells are placed on a reference slide.

    Each cell is matched with places of the slide. The layout is carried onto the matched places by the similarity of
    :class:`~ipar.geometry.frames.FrameSearch`. Among a cell's matches, those near its carried position :math:`x_i` count
    most,

    .. math:: w_{ij} \leftarrow w_{ij} / (1 + \lVert y_j - x_i \rVert^2 / \rho^2)

    and the cell goes to the mean of its matches and, with weight π, of :math:`x_i`.

    Attributes
    ----------
    matching
        How cells are matched with places.
    reach
        ρ, in RMS radii of the slide.
    prior
        π.
    transport
        Share of the way to places of the slide that cells are moved, from 0 to 1.
    margin
        Places are left empty that are further than this from any cell, in RMS radii of the slide.
    most_shift
        Positions are sharpened up to this :attr:`OnReference.shift`: cells of a few types do not fill the tissue evenly.
    search
        How the frame is found.
    most_witnesses
        Cells that the frame is found with.
    balanced
        Whether all places shall match like numbers of cells (:meth:`Matching.balanced`).
    least_certainty, least_oriented
        From which certainty of a frame, and of the orientation of its slide, a frame counts as decided.
    """

    matching: Matching = field(default_factory=Matching)
    reach: float = 0.3
    prior: float = 0.2
    transport: Share = 0.0
    margin: float = 0.3
    most_shift: float = 0.4
    search: FrameSearch = field(default_factory=FrameSearch)
    most_witnesses: Count = 3000
    balanced: bool = False
    least_certainty: float = 0.95
    least_oriented: float = 0.8

    def decided(self, frame: Frame, slide: ReferenceSlide) -> bool:
        """Whether rotation and reflection of a layout on a slide can be told."""
        return frame.certainty >= self.least_certainty and slide.oriented >= self.least_oriented

    def place(
        self,
        features: NDArray[np.float32],
        layout: NDArray[np.float32] | None,
        slide: ReferenceSlide,
        random_state: int = 0,
    ) -> OnReference:
        """Place cells.

        Parameters
        ----------
        features
            Cells in the space of the reference, ``(n, d)``.
        layout
            Their layout, ``(n, 2)``; without one, cells go to the mean of their matches.
        slide
            The reference slide.
        random_state
            Seed of the cells that the frame is found with.
        """
        known = slide.features.astype(np.float32)
        weights, similarity = self.matching.find(features, known)
        origin = slide.coords.mean(axis=0)  # far from the origin, squares would lose their digits
        places, frame, prior = slide.coords - origin, None, 0.0
        coords = np.zeros((len(features), 2))
        if layout is not None:
            frame = self._frame(layout, weights, places, random_state)
            coords, prior = frame.similarity.apply(layout), self.prior
            weights = _near(weights, places, coords, self.reach * slide.radius)
        if self.balanced:
            weights = self.matching.balanced(weights)
        total = row_sums(weights) + prior
        coords = (weights @ places + prior * coords) / total[:, None]
        weights = unit_sums(weights)
        spread = np.maximum(weights @ np.square(places).sum(axis=1) - np.square(weights @ places).sum(axis=1), 0)
        confidence = (1 / (1 + spread / (self.reach * slide.radius) ** 2)).astype(np.float32)
        if frame is not None:
            frame = replace(frame, similarity=replace(frame.similarity, target=frame.similarity.target + origin))
        return OnReference(coords + origin, weights, confidence, similarity, frame, _shift(weights, known))

    def moved(self, coords: FloatArray, slide: ReferenceSlide, random_state: int = 0) -> FloatArray:
        """Coordinates ``(n, 2)`` moved towards the places of the slide that they cover, by the share of the transport.

        Cells that go to the same place keep their positions relative to each other, but for a share of 1.
        """
        if not self.transport:
            return coords
        kept = slide.coords[covered_places(coords, slide.coords, self.margin * slide.radius)]
        there = transported(coords, kept, random_state=random_state)
        if self.transport == 1:
            return there
        _, place, count = np.unique(there, axis=0, return_inverse=True, return_counts=True)
        place = place.ravel()
        middle = np.stack([np.bincount(place, x) for x in coords.T], axis=1) / count[:, None]
        return coords + self.transport * (there - middle[place])

    def _frame(
        self, layout: NDArray[np.float32], weights: sparse.csr_matrix, places: FloatArray, random_state: int
    ) -> Frame:
        """The frame, as some of the cells tell it."""
        cells = np.sort(np.random.default_rng(random_state).permutation(len(layout))[: self.most_witnesses])
        return self.search.find(layout[cells], places, weights[cells], random_state)


def _near(weights: sparse.csr_matrix, places: FloatArray, coords: FloatArray, reach: float) -> sparse.csr_matrix:
    """Weights of matches, less of those far from where the cells were carried."""
    row = np.repeat(np.arange(len(coords)), np.diff(weights.indptr))
    square = np.square(places[weights.indices] - coords[row]).sum(axis=1)
    return sparse.csr_matrix((weights.data / (1 + square / reach**2), weights.indices, weights.indptr), weights.shape)


def _shift(weights: sparse.csr_matrix, known: NDArray[np.float32]) -> float:
    """Distance of mean matched features from the mean of all ``(m, d)``, in RMS norms."""
    matched = np.asarray(weights.mean(axis=0)).ravel() @ known
    norm = np.sqrt(np.square(known).sum(axis=1).mean())
    return float(np.linalg.norm(matched - known.mean(axis=0)) / max(norm, 1e-12))
