"""How many of a cell's nearest in its slide's own expression are true neighbours: for the defaults of the sharpening."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.ablations.folds import WHOLE
from benchmarks.tasks import tasks
from benchmarks.tasks.embedded import unplaced
from ipar.graph import neighbor_distances
from ipar.model.slide_pcs import SlidePCs

COMPONENTS, STEPS = (30, 50, 100, 200), (0, 1, 2, 3)
_N_TRUE, _N_NEAR = 20, 8


def measure(slide: str, data: Path) -> dict[str, float]:
    """Share of true neighbours (of 20) among the nearest eight, by ``"components, steps"``."""
    one = tasks.load(WHOLE[slide], data)
    matrix, coords = unplaced(one.query).expression, np.asarray(one.truth, dtype=np.float32)
    true = neighbor_distances(coords, None, _N_TRUE, metric="euclidean").astype(bool)
    codes, found = np.zeros(len(coords), dtype=np.int64), {}
    for n_components in COMPONENTS:
        for n_steps in STEPS:
            own = SlidePCs(n_components, n_steps).of(matrix, codes)
            near = neighbor_distances(own, None, _N_NEAR).astype(bool)
            found[f"{n_components}, {n_steps}"] = float(near.multiply(true).nnz / max(near.nnz, 1))
    return found
