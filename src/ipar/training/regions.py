"""Calibrating regions on slides that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ipar._options import Checked, Count, Depth
from ipar._run import Run
from ipar.model import Features
from ipar.model.blend import global_map
from ipar.model.flow import Flow
from ipar.model.regions import Calibration, FloatArray, Regions, place_scores


@dataclass(frozen=True)
class RegionRecipe(Checked):
    """How regions are made and calibrated.

    Chosen on brain sections 1 to 4 and simulated layers by the area of regions of 80 %. From 8 to 24 places, and powers from 0
    to 0.5, change it by less than 4 %; the power 1 costs more.

    Attributes
    ----------
    n_places, power, n_steps
        See :class:`ipar.model.regions.Regions`.
    n_quantiles
        Quantiles of the scores of each unit that are kept.
    upper
        Quantiles by which the scores of the finished held-out slide are compared with those of its global map.
    """

    n_places: Depth = 16
    power: float = 0.5
    n_steps: Depth = 10
    n_quantiles: Count = 400
    upper: tuple[float, ...] = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

    def blank(self, one_section: bool) -> Regions:
        """Regions without a calibration."""
        return Regions(self.n_places, self.power, self.n_steps, one_section=one_section)

    def finished_over_map(self, finished: FloatArray, mapped: FloatArray) -> float:
        """Ratio of the scores ``(n,)`` of the finished slide and those ``(n,)`` of its global map: the mean of the logs."""
        least = float(np.finfo(np.float32).tiny)
        logs = [np.log(np.maximum(np.quantile(one, self.upper), least)) for one in (finished, mapped)]
        return float(np.exp(np.mean(logs[0] - logs[1])))


@dataclass(frozen=True)
class LeftOut:
    """Slides, or parts of a section, as encoders see them that never saw their coordinates.

    Attributes
    ----------
    features
        Cross-fitted features of some cells of every unit.
    coords
        Their true coordinates, ``(n_s, 2)``.
    names
        Names of the units.
    held_out
        The unit that no network or flow was trained on.
    finished
        Its finished layout, ``(n, 2)``.
    one_section
        Whether the units are parts of one section.
    """

    features: Sequence[Features]
    coords: Sequence[NDArray[np.float32]]
    names: Sequence[str]
    held_out: int
    finished: NDArray[np.float32]
    one_section: bool = False


def fit_regions(
    left_out: LeftOut, errors: Sequence[NDArray[np.floating]], recipe: RegionRecipe, better: float = 1.0
) -> Regions:
    """Calibrate places of the layout on all units.

    Only the global map of a unit is free of its coordinates, apart from the finished layout of the held-out one. Scores of
    all units are those of global maps, times the ratio of the finished slide and its global map.

    Takes expected errors of every cell, ``(n_s,)``, by a head that was fitted without its unit. Errors of the model are
    expected to be ``better`` times those: regions shrink by as much.
    """
    regions = recipe.blank(left_out.one_section)
    known = list(zip(left_out.features, left_out.coords, errors, strict=True))
    mapped = [_scores(regions, global_map(one.global_features).numpy(), one, x, e) for one, x, e in known]
    finished = _scores(regions, left_out.finished, *known[left_out.held_out])
    ratio = recipe.finished_over_map(finished, mapped[left_out.held_out])
    ratio *= better ** (1 - recipe.power)  # the scale, a power of the expected error, shrinks by the rest
    found = Calibration.of([ratio * one for one in mapped], left_out.names, recipe.n_quantiles)
    return replace(regions, layout=found)


def with_flow(regions: Regions, left_out: LeftOut, flow: Flow, recipe: RegionRecipe, run: Run) -> Regions:
    """The same, with samples of a flow calibrated on the one unit that it was trained without."""
    held_out, layout = left_out.held_out, left_out.finished
    places = regions.drawn_places(layout, left_out.features[held_out].embedding, flow, run.quiet())
    coords = np.asarray(left_out.coords[held_out], dtype=np.float64)
    scores = place_scores(coords, layout, places, np.ones(len(coords)))
    found = Calibration.of([scores], [left_out.names[held_out]], recipe.n_quantiles)
    return replace(regions, flow=found)


def _scores(
    regions: Regions,
    layout: NDArray[np.float32],
    features: Features,
    coords: NDArray[np.float32],
    errors: NDArray[np.floating],
) -> FloatArray:
    places = regions.like_places(layout, features.embedding)
    scale = regions.scale("layout", errors, len(layout))
    return place_scores(np.asarray(coords, dtype=np.float64), layout, places, scale)
