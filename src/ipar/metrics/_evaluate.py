"""All scores at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ipar._public import public
from ipar._seeds import as_rng
from ipar.metrics._alignment import cell_errors, coverage, procrustes_error, rssd
from ipar.metrics._distances import contact_f1, distance_pearson, row_spearman, stress1
from ipar.metrics._e_geo import EGeo, e_geo, e_geo_minisets
from ipar.metrics._evenness import evenness
from ipar.metrics._neighbours import continuity, knn_chance, knn_hits, trustworthiness
from ipar.metrics._uncertainty import certain_half_error, uncertainty_spearman
from ipar.metrics.checks import FloatArray, as_cell_vector, as_pair, ranged_pair


def _knn_scores(true: FloatArray, pred: FloatArray, n_neighbors: Sequence[int]) -> dict[str, float]:
    n = len(true)
    possible = [k for k in n_neighbors if k < n]
    hits = dict(zip(possible, knn_hits(true, pred, possible), strict=True)) if possible else {}
    scores: dict[str, float] = {}
    for k in n_neighbors:
        hit, chance = (hits[k], knn_chance(n, k)) if k in hits else (np.nan, np.nan)
        scores |= {f"knn_hit_{k}": hit, f"knn_hit_{k}_chance": chance, f"knn_hit_{k}_ratio": hit / chance}
    return scores


def _shape_scores(true: FloatArray, pred: FloatArray) -> dict[str, float]:
    rows = row_spearman(true, pred, align=True)
    error = procrustes_error(true, pred)
    ranked = len(true) > 40
    return {
        "luna_spearman": float(np.median(rows)),
        "luna_spearman_mean": float(rows.mean()),
        "contact_f1_1": contact_f1(true, pred, quantile=0.01),
        "contact_f1_10": contact_f1(true, pred, quantile=0.1),
        "distance_pearson": distance_pearson(true, pred),
        "procrustes_rmse": error.rmse,
        "procrustes_median": error.median,
        "stress1": stress1(true, pred),
        "trustworthiness_20": trustworthiness(true, pred) if ranked else np.nan,
        "continuity_20": continuity(true, pred) if ranked else np.nan,
        "rssd": rssd(true, pred),
        "coverage": coverage(true, pred),
    }


def _evenness_scores(true: FloatArray, pred: FloatArray) -> dict[str, float]:
    counted = len(true) > 6  # a cell has a sixth neighbour
    even, even_true = (evenness(x) if counted else np.nan for x in (pred, true))
    # cells that are all equally far from each other have rounding errors only
    return {"evenness": even, "evenness_ratio": even / even_true if even_true > 1e-9 else np.nan}


def _energy_scores(
    true: FloatArray, pred: FloatArray, rng: np.random.Generator, n_minisets: int, max_whole: int
) -> dict[str, float]:
    small = e_geo_minisets(true, pred, n_minisets=n_minisets, random_state=rng)
    whole = e_geo(true, pred, random_state=rng) if len(true) <= max_whole else EGeo(np.nan, np.nan, np.nan)
    parts = ("", "_walk", "_stress")
    return {
        f"{name}{part}": value
        for name, energy in (("e_geo", small), ("e_geo_whole", whole))
        for part, value in zip(parts, energy, strict=True)
    }


@public
def evaluate(
    true: ArrayLike,
    pred: ArrayLike,
    *,
    uncertainty: ArrayLike | None = None,
    n_neighbors: Sequence[int] = (10, 20, 50),
    n_minisets: int = 20,
    max_cells: int = 10_000,
    max_whole: int = 2_000,
    random_state: int | np.random.Generator | None = 0,
) -> dict[str, float]:
    """Score a predicted layout of one slide by every metric.

    No score depends on the rotation, reflection, scale or position of the prediction.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells of one slide in the same order, shape (n_cells, 2), in any unit.
    uncertainty
        Predicted uncertainty per cell, shape (n_cells,). Larger is less certain.
    n_neighbors
        Numbers of neighbours of the kNN hit.
    n_minisets
        Number of random subsets over which ``e_geo`` is averaged.
    max_cells
        Larger slides are scored on a random subset of this many cells.
    max_whole
        Largest slide, in cells, for which ``e_geo_whole`` is computed.
    random_state
        Seed or generator. The same seed draws the same subsets for every prediction of the same cells.

    Returns
    -------
    Scores by name:

    - ``n_cells``: number of cells that were scored
    - ``luna_spearman``, ``luna_spearman_mean``: `luna_spearman`, median and mean over cells
    - ``contact_f1_1``, ``contact_f1_10``: `contact_f1` at 1 % and 10 %
    - ``knn_hit_K``, ``knn_hit_K_chance``, ``knn_hit_K_ratio`` for each K: `knn_hit`, that of chance, their ratio
    - ``distance_pearson``, ``stress1``, ``coverage``, ``rssd``: the functions of these names
    - ``procrustes_rmse`` in RMS radii, ``procrustes_median`` in tissue widths: `procrustes_error`
    - ``trustworthiness_20``, ``continuity_20``: the functions of these names
    - ``evenness``, ``evenness_ratio``: `evenness` of the prediction, and divided by that of the truth, which is best near 1
    - ``e_geo``, ``e_geo_walk``, ``e_geo_stress``: `e_geo_minisets`
    - ``e_geo_whole``, ``e_geo_whole_walk``, ``e_geo_whole_stress``: `e_geo`
    - ``uncertainty_spearman``, ``certain_half_error``: only if `uncertainty` is given

    A score that needs more cells than there are is NaN, and so is ``e_geo_whole`` above `max_whole` cells.

    Notes
    -----
    Several metrics need all pairs of cells, about 1.5 GiB for 10,000 cells. On a subset of a larger slide, local metrics
    refer to neighbours within the subset. The time of ``e_geo_whole`` grows with the third power of the number of cells.

    Examples
    --------
    >>> import numpy as np
    >>> import ipar
    >>> true = np.random.default_rng(0).random((300, 2))
    >>> scores = ipar.metrics.evaluate(true, 5 * true[:, ::-1])  # mirrored and scaled: the same layout
    >>> round(scores["luna_spearman"], 6), scores["e_geo"] < 1e-9
    (1.0, True)
    """
    truth, layout = ranged_pair(true, pred)
    if min(n_neighbors, default=1) < 1:
        msg = f"`n_neighbors` must hold counts of at least 1, found {tuple(n_neighbors)}."
        raise ValueError(msg)
    if max_cells < 4:
        msg = f"`max_cells` must be at least 4, found {max_cells}."
        raise ValueError(msg)
    doubts = None if uncertainty is None else as_cell_vector(uncertainty, "uncertainty", len(truth))
    rng = as_rng(random_state)
    if len(truth) > max_cells:
        cells = rng.choice(len(truth), size=max_cells, replace=False)
        truth, layout = ranged_pair(truth[cells], layout[cells])
        doubts = None if doubts is None else doubts[cells]
    scores = {"n_cells": float(len(truth))}
    scores |= _shape_scores(truth, layout)
    scores |= _knn_scores(truth, layout, n_neighbors)
    scores |= _evenness_scores(truth, layout)
    scores |= _energy_scores(truth, layout, rng, n_minisets, max_whole)
    if doubts is not None:
        errors = cell_errors(truth, layout)
        scores["uncertainty_spearman"] = uncertainty_spearman(errors, doubts)
        scores["certain_half_error"] = certain_half_error(errors, doubts)
    return scores


@public
def evaluate_slides(
    true: ArrayLike,
    pred: ArrayLike,
    slides: ArrayLike,
    *,
    uncertainty: ArrayLike | None = None,
    n_neighbors: Sequence[int] = (10, 20, 50),
    n_minisets: int = 20,
    max_cells: int = 10_000,
    max_whole: int = 2_000,
    random_state: int | np.random.Generator | None = 0,
) -> dict[str, dict[str, float]]:
    """Score each slide separately, and average over slides.

    Parameters
    ----------
    true, pred
        Coordinates of the same cells in the same order, shape (n_cells, 2).
    slides
        Slide of each cell, shape (n_cells,).
    uncertainty, n_neighbors, n_minisets, max_cells, max_whole, random_state
        As for `evaluate`. An integer seed is used afresh for each slide.

    Returns
    -------
    Scores of `evaluate` by slide, in order of first appearance, and their mean over slides under ``"mean"``. NaN scores are
    left out of the mean.
    """
    truth, layout = as_pair(true, pred)
    labels = _slide_labels(slides, len(truth))
    doubts = None if uncertainty is None else as_cell_vector(uncertainty, "uncertainty", len(truth))
    result: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(labels.tolist()):
        rows = np.flatnonzero(labels == name)
        try:
            result[name] = evaluate(
                truth[rows],
                layout[rows],
                uncertainty=None if doubts is None else doubts[rows],
                n_neighbors=n_neighbors,
                n_minisets=n_minisets,
                max_cells=max_cells,
                max_whole=max_whole,
                random_state=random_state,
            )
        except ValueError as error:
            msg = f"slide {name!r}: {error}"
            raise ValueError(msg) from error
    result["mean"] = _mean_scores(result)
    return result


def _slide_labels(slides: ArrayLike, n_cells: int) -> NDArray[np.str_]:
    labels = np.asarray(slides, dtype=object)
    if labels.shape != (n_cells,):
        msg = f"`slides` must have shape ({n_cells},), one label per cell, found {labels.shape}."
        raise ValueError(msg)
    missing = sum(label is None or label != label for label in labels)  # NaN is the one value unequal to itself
    if missing:
        msg = f"`slides` has no label for {missing} of {n_cells} cells; drop these cells or name their slide."
        raise ValueError(msg)
    names = np.array([str(label) for label in labels])
    if (names == "mean").any():
        msg = 'a slide is called "mean", which is the name of the average over slides; rename the slide.'
        raise ValueError(msg)
    return names


def _mean_scores(per_slide: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    means = {}
    for key in next(iter(per_slide.values())):
        values = [scores[key] for scores in per_slide.values() if not np.isnan(scores[key])]
        means[key] = float(np.mean(values)) if values else np.nan
    return means
