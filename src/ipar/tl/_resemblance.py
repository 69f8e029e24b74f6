"""Whether the cells of an AnnData resemble the training slides of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ipar._anndata import warn
from ipar._chunks import as_rows
from ipar._expression import Cells
from ipar.graph.nearest import Nearest
from ipar.model import IGA, Features, IPALite
from ipar.model.genes import order_genes
from ipar.model.resemblance import Resemblance, Signs


class ResemblanceWarning(UserWarning):
    """Cells do not resemble the training slides."""


@dataclass(frozen=True)
class Resembles:
    """How much cells belong ``(n,)``, NaN where nothing can be said, and the record of their slides."""

    belongs: NDArray[np.float32]
    record: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _SlideFound:
    name: str
    signs: Signs
    distance: float
    adapted: bool


class QueryResemblance:
    """Collects signs slide by slide.

    Parameters
    ----------
    model
        The model; without a resemblance, nothing is collected.
    cells
        Cells of all slides.
    """

    def __init__(self, model: IPALite | IGA, cells: Cells) -> None:
        self._model, self._known, self._slides = model, model.resemblance, list[_SlideFound]()
        self._belongs = np.full(len(cells.labels), np.nan, dtype=np.float32)
        if self._known is not None:
            matrix, genes, _ = cells.arrays
            self._matrix = as_rows(order_genes(matrix, genes, model.encoder.genes))

    def add(
        self,
        name: str,
        rows: NDArray[np.int64],
        features: Features,
        expected: NDArray[np.float32],
        near: Nearest | None = None,
    ) -> NDArray[np.float32]:
        """Read the cells of one slide; their expected errors ``(n,)`` come back as they are for these cells.

        Errors of cells without counts are NaN.
        """
        if self._known is None:
            return expected
        own = np.sort(rows)
        matrix, order = self._matrix.select(own), np.searchsorted(own, rows)
        signs = self._known.known.signs(matrix, features.embedding, near, rows=order)
        adapted = isinstance(self._model, IPALite) and self._model.adapts(matrix)
        self._slides.append(_SlideFound(name, signs, self._known.distance(signs, adapted=adapted), adapted))
        empty = (matrix.survey.sizes == 0)[order]
        self._belongs[rows] = np.where(empty, np.nan, self._known.belongs(signs))
        return np.where(empty, np.nan, self._known.error(expected, signs, adapted=adapted)).astype(np.float32)

    def found(self) -> Resembles | None:
        """All that was collected; warns of slides that do not resemble the training slides."""
        if self._known is None or not self._slides:
            return None
        distance = np.array([one.distance for one in self._slides])
        resembles = distance <= self._known.threshold
        messages = [_sentence(one, self._known) for one in self._slides]
        foreign = [message for message, fine in zip(messages, resembles, strict=True) if not fine]
        if foreign:
            warn(" ".join(foreign), ResemblanceWarning)
        return Resembles(
            self._belongs,
            {
                "slide": np.array([one.name for one in self._slides], dtype=object),
                "resembles": resembles,
                "distance": distance,
                "threshold": np.full(len(distance), self._known.threshold),
                "agreement": np.array([one.signs.agreement for one in self._slides]),
                "profile": np.array([one.signs.profile for one in self._slides]),
                "adapted": np.array([one.adapted for one in self._slides]),
                "message": np.array(messages, dtype=object),
            },
        )


def _sentence(one: _SlideFound, known: Resemblance) -> str:
    """What was found of a slide."""
    usual = np.tanh(known.slides)
    agreement, profile = (f"{usual[:, i].min():.2f} to {usual[:, i].max():.2f}" for i in range(2))
    foreign = one.distance > known.threshold
    said = (
        f"{'Cells' if one.name == 'all' else repr(one.name)} {'do not resemble' if foreign else 'resemble'} the training slides "
        f"(distance {one.distance:.1f}, {known.threshold:.1f} is the limit): half of their genes tells the other half with a "
        f"correlation of {one.signs.agreement:.2f} (left-out training slides: {agreement}), and their mean expression correlates with "
        f"that of the training slides at {one.signs.profile:.2f} ({profile})."
    )
    if not foreign:
        return said
    if known.shortfall(one.signs)[0] > 0.5 * known.threshold:
        return f"{said} They are of another tissue, or their values are noise: their coordinates mean nothing."
    return (
        f"{said} Genes vary together as in the training slides: of another technology, call ipar.tl.adapt(model, adata) first; "
        "of another tissue, their coordinates mean nothing."
    )
