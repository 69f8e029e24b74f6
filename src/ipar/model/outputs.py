"""What a fitted model gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ipar.graph.neighbors import cells_by_slide
from ipar.model.features import embedding_order, reordered


class Features(NamedTuple):
    """What an encoder says of the cells of slides.

    Attributes
    ----------
    embedding
        The embedding, ``(n, n_output)``.
    global_features
        Features that were taught distances across the tissue, ``(n, d)``: blocks of the embedding and the set encoder's
        output side by side, of the same size on every slide but for the set encoder's weight.
    """

    embedding: NDArray[np.float32]
    global_features: NDArray[np.float32]

    def rows(self, cells: NDArray[np.intp]) -> Features:
        """The features of some cells."""
        return Features(reordered(self.embedding, cells), reordered(self.global_features, cells))

    def of_slides(self, labels: pd.Categorical[Any]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Name and cells of every slide, cells in :func:`~ipar.model.features.embedding_order`."""
        for name, rows in zip(labels.categories, cells_by_slide(labels, len(labels)), strict=True):
            yield str(name), rows[embedding_order(self.embedding[rows])]

    def in_order(self) -> tuple[NDArray[np.intp], Features]:
        """The :func:`~ipar.model.features.embedding_order` of the cells of one slide, and their features in it."""
        order = embedding_order(self.embedding)
        return order, self.rows(order)


@dataclass(frozen=True)
class Layout:
    """Predicted coordinates.

    Attributes
    ----------
    coords
        The finished layout, gauge-fixed, ``(n, 2)``.
    recycles
        The network's own first guess and its layout after every recycle, turned onto the finished one, ``(R + 1, n, 2)``.
    method
        ``"direct"`` or ``"consensus"``.
    """

    coords: NDArray[np.float32]
    recycles: NDArray[np.float32]
    method: str


@dataclass(frozen=True)
class Attention:
    """Attention rows of a few cells from one pass.

    Attributes
    ----------
    query
        Positions of the cells looked at, ``(q,)``.
    cells
        Positions of the cells that took part, ``(m,)``.
    weights
        ``(q, R, H, m)``.
    candidates
        Which cells each could attend to, ``(q, m)``.
    """

    query: NDArray[np.int64]
    cells: NDArray[np.int64]
    weights: NDArray[np.float32]
    candidates: NDArray[np.bool_]
