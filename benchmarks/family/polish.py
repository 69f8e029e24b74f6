"""Whether refinement helps: predictions of a held-out training slide, before and after ``optimise_coords(refine=True)``.

    python -m benchmarks.family.polish --data ../shared/data

Networks are trained on all training slides but one, which is placed and then refined with their gate. The task's test
slide has no part in it. Every (task, seed) is kept as a line of ``polish.jsonl``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.family.fits import Protocol, measure_tasks
from benchmarks.tasks.embedded import Embedded
from benchmarks.tasks.records import Record
from ipar.metrics import evaluate
from ipar.model import Blend
from ipar.training import Folds, Optimisation, Run
from ipar.training.network import fit_network
from ipar.training.optimise import gate_targets, optimise_layout

SCORES = ("luna_spearman", "knn_hit_20_ratio", "contact_f1_1", "procrustes_rmse", "coverage", "e_geo")


def measure(slides: Embedded, seed: int, protocol: Protocol) -> Record:
    """Scores of a held-out training slide before and after refinement."""
    plan, run = protocol.recipe.plan, Run(seed)
    folds = Folds.of([len(x) for x in slides.train], run)
    network = fit_network(slides.train, slides.coords, folds, replace(protocol.recipe, refit=False), run).stage
    h, truth = slides.train[folds.held_out], slides.coords[folds.held_out]
    start = Blend().apply(network.apply(h, run)[-1], slides.across[folds.held_out], None)
    targets = gate_targets(torch.from_numpy(h), start, network.gate, n_neighbors=plan.n_neighbors, random_state=seed)
    how = replace(Optimisation.polish(), subset_size=sum(plan.size) // 2)
    polished = optimise_layout(start, targets, config=how, run=run).coords
    return {"before": scores(truth, start.numpy()), "after": scores(truth, polished.numpy())}


def scores(truth: NDArray[np.float32], coords: NDArray[np.float32]) -> dict[str, float]:
    """Those that are shown."""
    found = evaluate(truth, coords, random_state=0)
    return {name: float(found[name]) for name in SCORES}


if __name__ == "__main__":
    measure_tasks(__doc__, "polish", measure, ["brain2", "embryo"])
