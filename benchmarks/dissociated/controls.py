"""Controls that place cells in the frame of one section, without learning or with little."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from benchmarks.dissociated.scores import Floats, Placed
from benchmarks.dissociated.tasks import Dissociated, places
from benchmarks.methods.arrays import dense
from benchmarks.methods.controls import PENALTIES
from ipar.baselines.inputs import as_reference, principal_components

_N_BEST = 10
_N_NEIGHBOURS = 20
_N_COMPONENTS = 50


def correlations(one: Floats, other: Floats) -> Floats:
    """Pearson correlations of all rows of one matrix with all rows of another, over genes."""
    a, b = (_unit_rows(np.asarray(x, dtype=np.float64)) for x in (one, other))
    found: Floats = a @ b.T
    return found


def best(alike: Floats, n: int) -> np.ndarray:
    """Columns of the largest values of every row, in falling order."""
    return np.argsort(-alike, axis=1, kind="stable")[:, :n]


def nearest_spot(given: Dissociated, seed: int) -> Placed:
    """The spot of the section that correlates best: a look-up."""
    return _mean_of_best(given, 1)


def ten_best(given: Dissociated, seed: int) -> Placed:
    """Mean place of the ten spots that correlate best."""
    return _mean_of_best(given, _N_BEST)


def pca_knn(given: Dissociated, seed: int) -> Placed:
    """Mean place of the 20 nearest spots, by 50 principal components of either side's centred genes."""
    known, unseen = components(given, seed)
    distances, rows = NearestNeighbors(n_neighbors=_N_NEIGHBOURS).fit(known).kneighbors(unseen)
    return Placed(places(given.section)[rows].mean(axis=1), -distances.mean(axis=1))


def ridge(given: Dissociated, seed: int) -> Placed:
    """Places linear in the same components, the penalty by leaving spots out."""
    known, unseen = components(given, seed)
    return Placed(RidgeCV(PENALTIES).fit(known, places(given.section)).predict(unseen))


def any_spot(given: Dissociated, seed: int) -> Placed:
    """Any spot of the section: chance."""
    rng, coords = np.random.default_rng(seed), places(given.section)
    return Placed(coords[rng.integers(len(coords), size=given.cells.n_obs)], rng.random(given.cells.n_obs))


CONTROLS: dict[str, Callable[[Dissociated, int], Placed]] = {
    "nearest_spot": nearest_spot,
    "ten_best": ten_best,
    "pca_knn": pca_knn,
    "ridge": ridge,
    "any_spot": any_spot,
}


def components(given: Dissociated, seed: int) -> tuple[Floats, Floats]:
    """Principal components of the spots, and the cells on the same axes; genes are centred on either side."""
    coords = places(given.section)
    data = as_reference(given.section.X, coords, np.zeros(len(coords), dtype=int), given.cells.X)
    return principal_components(data.x, data.query, _N_COMPONENTS, seed=seed, power=0.0)


def _mean_of_best(given: Dissociated, n: int) -> Placed:
    alike = correlations(dense(given.cells), dense(given.section))
    chosen = best(alike, n)
    return Placed(places(given.section)[chosen].mean(axis=1), np.take_along_axis(alike, chosen, axis=1).mean(axis=1))


def _unit_rows(x: Floats) -> Floats:
    centred = x - x.mean(axis=1, keepdims=True)
    rows: Floats = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    return rows
