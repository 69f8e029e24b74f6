"""Training slides as encoders see them that were taught on them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar.model import Features
from ipar.model.given import Encoder
from ipar.training.folds import Folds
from ipar.training.slides import Slide, SlideSet


def embed_slide(encoder: Encoder, slide: Slide, genes: pd.Index | None = None) -> Features:
    """Features of one slide; its genes are the encoder's, if None."""
    return encoder.features(slide.expression, encoder.genes if genes is None else genes, slide.labels)


class Taught:
    """Embeddings of the slides that stay while a group is held out, each computed once.

    Attributes
    ----------
    slides, folds
        Training slides, and what is held out of them.
    """

    def __init__(self, slides: SlideSet, folds: Folds) -> None:
        self.slides, self.folds = slides, folds
        self._known = {group: folds.known(slides, group) for group in folds.groups}
        self._found: dict[tuple[int, int], tuple[Encoder, NDArray[np.float32]]] = {}

    def known(self, group: tuple[int, ...] = ()) -> SlideSet:
        """The slides without a group and the margins around it; all slides without one."""
        return self._known[group] if group else self.slides

    def embeddings(self, encoder: Encoder, group: tuple[int, ...] = ()) -> list[NDArray[np.float32]]:
        """What an encoder makes of every slide of :meth:`known`, ``(n_s, e)``."""
        return [self._embedding(encoder, slide) for slide in self.known(group)]

    def _embedding(self, encoder: Encoder, slide: Slide) -> NDArray[np.float32]:
        key = id(encoder), id(slide)  # the encoder is kept, so that no other has its number
        if key not in self._found:
            self._found[key] = encoder, embed_slide(encoder, slide).embedding
        return self._found[key][1]
