"""Sets of places that hold a cell's true place as often as was asked, measured on left-out slides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ipar._options import Depth, NonNegative, checked
from ipar._run import Run
from ipar.graph.nearest import Nearest, nearest
from ipar.metrics import turned_onto
from ipar.model.checks import checked_names
from ipar.model.features import embedding_order
from ipar.model.flow import Flow
from ipar.model.io import Arrays, State

FloatArray = NDArray[np.float64]
Source = Literal["layout", "flow"]
"""Where the places of a cell come from."""


@dataclass(frozen=True)
class Calibration:
    """Scores of cells on left-out units, which are exchangeable with new slides.

    Attributes
    ----------
    scores
        Quantiles of the scores of each unit, at even steps, ``(n_units, n_quantiles)``.
    units
        Names of the units: slides, or parts of a single section.
    """

    scores: FloatArray
    units: tuple[str, ...]

    @classmethod
    def of(cls, scores: Sequence[FloatArray], units: Sequence[str], n_quantiles: int) -> Calibration:
        """Those of cells of every unit: units count alike, whatever their number of cells."""
        steps = (np.arange(n_quantiles) + 0.5) / n_quantiles
        return cls(np.stack([np.quantile(one, steps, method="inverted_cdf") for one in scores]), tuple(units))

    def threshold(self, level: float) -> float:
        """The score below which lies a share ``level`` of the cells of a unit, on average over units."""
        return float(np.quantile(self.scores, level, method="inverted_cdf"))

    def floor(self, level: float) -> float:
        """Least expected coverage of a new, exchangeable unit, whatever the scores are: level · S / (S + 1) with S units."""
        return level * len(self.units) / (len(self.units) + 1)


@dataclass(frozen=True)
class Regions:
    r"""Regions of cells: unions of balls around K places, of one radius per cell and level.

    .. math:: R_i(\alpha) = \bigcup_k B\big(x_{ik},\, q_\alpha s_i\big), \qquad
              q_\alpha = \inf\Big\{q : \tfrac1S \sum_j F_j(q) \ge \alpha\Big\}

    The places :math:`x_{ik}` stand for a sample of where the cell may lie. F_j is the share of the cells of left-out slide
    j with :math:`\min_k \lVert y_i - x_{ik} \rVert / s_i \le q`, where y is the truth, turned onto the layout at the same RMS
    radius. Slides count alike in q: cells of one slide are not independent, slides are.

    - Places of the ``"layout"``: the cell's own, and those of the cells nearest to it in the embedding. The scale s is a
      power of the expected error.
    - Places of the ``"flow"``: those of the cell in samples, each turned onto the layout. The scale is 1.

    Attributes
    ----------
    n_places
        K.
    power
        Of the expected error in s. Its rank correlation with true errors is 0.2 to 0.5, so that regions in proportion to it
        differ too much in size.
    n_steps
        Steps of each sample of the flow.
    layout, flow
        Scores of places of either kind on left-out slides; None where a model has no such places.
    one_section
        Whether the units are parts of a single section.

    References
    ----------
    Wang, Gao, Yin, Zhou & Blei, Probabilistic conformal prediction using conditional random samples, arXiv:2206.06584 (2022);
    Dunn, Wasserman & Ramdas, Distribution-free prediction sets for two-layer hierarchical models, JASA 118 (2022);
    Lee, Barber & Willett, Distribution-free inference with hierarchical data, arXiv:2306.06342 (2023).
    """

    n_places: int
    power: float
    n_steps: int
    layout: Calibration | None = None
    flow: Calibration | None = None
    one_section: bool = False

    def of(self, source: Source) -> Calibration:
        """The calibration of places of a kind.

        Raises
        ------
        ValueError
            If there is no such kind, or the model has none.
        """
        if source not in get_args(Source):
            msg = f"samples must be one of {get_args(Source)}, found {source!r}."
            raise ValueError(msg)
        found: Calibration | None = getattr(self, source)
        if found is None:
            remedy = {
                "flow": "fit the model with ipar.tl.fit_ipalite(adata, ..., flow=True), or use samples='layout'",
                "layout": "use samples='flow', or a model from ipar.tl.fit_ipalite",
            }
            msg = f"The model has no regions from samples={source!r}: {remedy[source]}."
            raise ValueError(msg)
        return found

    def like_places(
        self, layout: NDArray[np.floating], embedding: NDArray[np.float32], near: Nearest | None = None
    ) -> NDArray[np.float32]:
        """Places of every cell and its nearest in the embedding in a layout ``(n, 2)`` of one slide, ``(n, K, 2)``.

        Slides of fewer cells repeat the cell's own place.
        """
        n = len(layout)
        k = min(self.n_places, n) - 1
        near = nearest(embedding, k) if near is None or near.index.shape[1] < k else near.first(k)
        index = np.repeat(np.arange(n)[:, None], self.n_places, axis=1)
        index[:, 1 : k + 1] = near.index
        return np.asarray(layout, dtype=np.float32)[index]

    def drawn_places(
        self, layout: NDArray[np.floating], embedding: NDArray[np.float32], flow: Flow, run: Run
    ) -> NDArray[np.float32]:
        """Places of every cell of one slide in samples of the flow, each turned onto the layout ``(n, 2)``, ``(n, K, 2)``."""
        order = embedding_order(embedding)
        drawn = flow.sample(embedding[order], self.n_places, n_steps=self.n_steps, run=run).coords
        drawn = drawn[:, np.argsort(order)].astype(np.float64)
        onto = np.asarray(layout, dtype=np.float64)
        return np.stack([turned_onto(onto, one) for one in drawn], axis=1).astype(np.float32)

    def scale(self, source: Source, expected_error: NDArray[np.floating] | None, n: int) -> FloatArray:
        """The scale s of every cell, ``(n,)``."""
        if source == "flow" or expected_error is None:
            return np.ones(n)
        least = float(np.finfo(np.float32).tiny)
        return np.maximum(np.asarray(expected_error, dtype=np.float64), least) ** self.power

    def radii(self, source: Source, levels: Sequence[float], scale: FloatArray) -> NDArray[np.float32]:
        """Radii of the balls for cells of a scale ``(n,)``, one column per level, ``(n, L)``."""
        calibration = self.of(source)
        q = np.array([calibration.threshold(level) for level in levels])
        radii: NDArray[np.float32] = (scale[:, None] * q).astype(np.float32)
        return radii

    def state(self) -> State:
        """Settings and arrays."""
        config: dict[str, Any] = {name: getattr(self, name) for name in ("n_places", "power", "n_steps", "one_section")}
        arrays: Arrays = {}
        for name in get_args(Source):
            found: Calibration | None = getattr(self, name)
            if found is not None:
                config[name], arrays[name] = list(found.units), found.scores
        return config, arrays

    @classmethod
    def from_state(cls, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Regions:
        """The stage of :meth:`state`."""
        own = checked(config, {"n_places": Depth, "power": NonNegative, "n_steps": Depth, "one_section": bool})
        for name, scores in arrays.items():
            units = checked_names(f"{name} units", config[name], len(scores))
            own[name] = Calibration(np.asarray(scores, dtype=np.float64), tuple(units))
        return cls(**own)


def place_scores(
    true: FloatArray, layout: NDArray[np.floating], places: NDArray[np.floating], scale: FloatArray
) -> FloatArray:
    """Distance from the true place of each cell to the nearest of its places, over its scale, ``(n,)``.

    The truth ``(n, 2)``, in any frame, is turned onto the layout ``(n, 2)`` that the places ``(n, K, 2)`` belong to.
    """
    where = turned_onto(np.asarray(layout, dtype=np.float64), np.asarray(true, dtype=np.float64))
    gaps = np.linalg.norm(places - where[:, None], axis=-1).min(axis=1)
    scores: FloatArray = gaps / scale
    return scores


def checked_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Levels of coverage as numbers.

    Raises
    ------
    ValueError
        If there are none, one is not strictly between 0 and 1, or they do not rise.
    """
    values = tuple(float(level) for level in np.atleast_1d(np.asarray(levels, dtype=np.float64)))
    rising = all(a < b for a, b in zip(values, values[1:], strict=False))
    if not values or not rising or not all(0 < level < 1 for level in values):
        msg = f"levels must rise, each strictly between 0 and 1, such as (0.5, 0.8, 0.9), found {levels!r}."
        raise ValueError(msg)
    return values
