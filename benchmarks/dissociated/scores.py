"""What a method gives for dissociated cells, and how each task scores it. Truth lives here, apart from what methods get."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import roc_auc_score

import ipar

Floats = NDArray[np.floating[Any]]
Scores = dict[str, float]
Rows = NDArray[np.intp]

_N_ANGLES = 180
_INVARIANT = ("luna_spearman", "knn_hit_20_ratio", "contact_f1_1", "procrustes_rmse", "e_geo", "coverage")


@dataclass(frozen=True)
class Placed:
    """Places of cells in the frame of a section.

    Attributes
    ----------
    coords
        A place per cell, ``(n_cells, 2)``, in the units of the section.
    confidence
        How sure the method is that a cell belongs in the section; None, where it does not say.
    likeliest
        The place of the one spot to which a mapping gives most of a cell; None for what is no mapping.
    extra
        What else is kept in the record: time and memory.
    """

    coords: Floats
    confidence: Floats | None = None
    likeliest: Floats | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Truth(Protocol):
    """What is known of the cells of a task."""

    def scored(self, placed: Placed, rows: Rows) -> Scores:
        """Scores of the places of these cells."""


@dataclass(frozen=True)
class Layers:
    """Layers of cortex that the names of cell types tell.

    Attributes
    ----------
    rank
        Rank of the layer of each neuron; NaN for cells that are not scored, ``(n_cells,)``.
    depth
        Direction of depth in the section, from markers of layers in the section alone, ``(2,)``.
    groups
        Groups of cells in the order of their depth, numbered from 0; -1 for cells of no group, ``(n_cells,)``.
    foreign
        Cells that belong in no cortex, ``(n_cells,)``; None, where there are none.
    """

    rank: Floats
    depth: Floats
    groups: NDArray[np.intp] | None = None
    foreign: NDArray[np.bool_] | None = None

    def scored(self, placed: Placed, rows: Rows) -> Scores:
        """Correlation of depth and layer; order of the groups; how well foreign cells are told."""
        rank = self.rank[rows]
        neurons = np.isfinite(rank)
        found = depth_scores(placed.coords[neurons], rank[neurons], self.depth)
        if self.groups is not None:
            found |= order_scores(placed.coords @ self.depth, self.groups[rows])
        if self.foreign is not None and placed.confidence is not None:
            foreign = self.foreign[rows]
            found["auroc_neurons"] = auroc(foreign, placed.confidence, neurons | foreign)
            found["auroc_all"] = auroc(foreign, placed.confidence, np.ones(len(rows), dtype=bool))
        return found


@dataclass(frozen=True)
class Canvas:
    """Measured places, in part of cells that are summed into the spots that teach."""

    coords: Floats
    leaked: NDArray[np.bool_]

    def scored(self, placed: Placed, rows: Rows) -> Scores:
        """Errors of unseen cells, of leaked ones, and of both mixed."""
        errors = np.linalg.norm(placed.coords - self.coords[rows], axis=1)
        leaked = self.leaked[rows]
        parts = {"unseen": ~leaked, "leaked": leaked, "mixed": np.ones(len(rows), dtype=bool)}
        found: Scores = {"leaked_share": float(leaked.mean())}
        for name, some in parts.items():
            found |= {f"{name}_median": float(np.median(errors[some])), f"{name}_mean": float(errors[some].mean())}
        return found


@dataclass(frozen=True)
class Half:
    """Measured places of the half of a slide that did not teach, in the frame of the half that did."""

    coords: Floats
    radius: float

    def scored(self, placed: Placed, rows: Rows) -> Scores:
        """Errors in RMS radii of the section, as they are in its frame; two invariant scores."""
        truth = self.coords[rows]
        errors = np.linalg.norm(placed.coords - truth, axis=1) / self.radius
        layout = ipar.metrics.evaluate(truth, placed.coords, random_state=0)
        names = ("knn_hit_20_ratio", "luna_spearman")
        return {"error_median": float(np.median(errors)), "error_mean": float(errors.mean())} | {
            name: float(layout[name]) for name in names
        }


@dataclass(frozen=True)
class Section:
    """Measured places of another section, which has a frame of its own."""

    coords: Floats

    def scored(self, placed: Placed, rows: Rows) -> Scores:
        """Scores that no rotation, reflection or scale changes."""
        layout = ipar.metrics.evaluate(self.coords[rows], placed.coords, random_state=0)
        return {name: float(layout[name]) for name in _INVARIANT}


def depth_scores(coords: Floats, rank: Floats, depth: Floats) -> Scores:
    """Spearman correlation of depth and layer: along the direction that suits best, and along the section's own."""
    turns = np.linspace(0, np.pi, _N_ANGLES, endpoint=False)
    directions = np.round(np.column_stack([np.cos(turns), np.sin(turns)]), 12)  # places on a grid tie along its axes
    own = correlation(coords @ depth, rank)
    fitted = [abs(correlation(coords @ direction, rank)) for direction in directions]
    return {"depth_fitted": max(*fitted, abs(own)), "depth_section": own}


def correlation(one: Floats, other: Floats) -> float:
    """Spearman correlation; 0 where one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other).statistic)


def order_scores(depth: Floats, groups: NDArray[np.intp]) -> Scores:
    """Whether the mean depths of groups stand in the order of their numbers; and Kendall's τ of the two."""
    numbers = np.unique(groups[groups >= 0])
    means = np.array([depth[groups == number].mean() for number in numbers])
    return {"in_order": float((np.diff(means) > 0).all()), "kendall": float(kendalltau(numbers, means).statistic)}


def auroc(foreign: NDArray[np.bool_], confidence: Floats, among: NDArray[np.bool_]) -> float:
    """How often a foreign cell is less sure of its place than another: 0.5 is chance, 1 is always."""
    return float(roc_auc_score(foreign[among], -np.asarray(confidence)[among]))


def row_certainty(plan: Floats) -> Floats:
    """Certainty of the rows of a mapping ``(n_cells, n_spots)``: entropy, negative, 0 for a row that names one spot."""
    share = np.asarray(plan, dtype=np.float64)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    entropy: Floats = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=1)
    return -entropy
