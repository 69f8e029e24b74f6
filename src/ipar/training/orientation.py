"""Does expression tell the sides of a tissue? Rotation and reflection, as held-out cells show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ipar._options import Checked
from ipar.geometry.frames import FrameSearch
from ipar.model.given import Encoder
from ipar.model.matching import Matching
from ipar.training.folds import Folds
from ipar.training.slides import SlideSet
from ipar.training.taught import embed_slide

Matched = tuple[NDArray[np.floating], NDArray[np.floating], sparse.csr_matrix]  # coordinates, places, weights


@dataclass(frozen=True)
class Orientation(Checked):
    """How it is found whether expression tells rotation and reflection of a tissue.

    Attributes
    ----------
    matching
        How cells are matched with places.
    search
        How orientations are compared.
    """

    matching: Matching = field(default_factory=Matching)
    search: FrameSearch = field(default_factory=FrameSearch)

    def of(self, encoders: Sequence[Encoder], slides: SlideSet, folds: Folds) -> float:
        """How sure held-out cells tell it, the mean over slides; NaN in three dimensions.

        Cells of a part are matched by an encoder that never saw their coordinates: with the cells that it was taught on in a
        single section, and among each other on a slide, whose frame has nothing to do with those of other slides.

        Parameters
        ----------
        encoders
            The encoder that each part of the folds was held out of.
        slides
            Training slides.
        folds
            What was held out of what.
        """
        if slides.n_dims == 3:
            return float("nan")
        matched: list[Matched] = []
        for i, (encoder, part) in enumerate(zip(encoders, folds.split(slides), strict=True)):
            cells = folds.cells[i]
            own, coords = embed_slide(encoder, part).embedding[cells], part.coords[cells]
            if folds.one_section:
                known = folds.known(slides, folds.group_of(i))[0]
                matched.append(
                    (coords, known.coords, self.matching.find(own, embed_slide(encoder, known).embedding)[0])
                )
            else:
                matched.append((coords, coords, self.matching.within(own)))
        together = [matched] if folds.one_section else [[one] for one in matched]
        return float(np.mean([self.told(same_frame) for same_frame in together]))

    def told(self, matched: Sequence[Matched]) -> float:
        """Probability that no rotation or mirror image fits matches better than the truth.

        Parameters
        ----------
        matched
            Parts in one frame: true coordinates of cells ``(n, 2)``, true places ``(m, 2)``, and the weights of their matches,
            CSR ``(n, m)``.

        Returns
        -------
        float
            Above 0.5 if the truth fits best, at most 0.5 otherwise.
        """
        coords, places = (np.concatenate([one[i] for one in matched]) for i in range(2))
        weights = sparse.csr_matrix(sparse.block_diag([one[2] for one in matched], format="csr"))
        found, least = self.search.find(coords, places, weights), np.cos(np.deg2rad(self.search.least_turn))
        upright = not found.similarity.mirrored and found.similarity.rotation[0, 0] > least
        return found.certainty if upright else min(1 - found.certainty, 0.5)
