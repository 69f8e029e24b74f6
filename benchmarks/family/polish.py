"""Whether refinement helps: predictions of a held-out training slide, before and after ``optimise_coords(refine=True)``.

    python -m benchmarks.family.polish --data ../shared/data

Networks are trained on all training slides but one, which is placed and then refined with their gate. The task's test
slide has no part in it. Every (task, seed) is kept as a line of ``polish.jsonl``.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from benchmarks.family.fits import Protocol
from benchmarks.tasks.embedded import Embedded, embedded
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept
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


def main() -> None:
    """Run, or go on."""
    parser = parser_of(__doc__, page=False)
    parser.add_argument("--tasks", nargs="+", default=["brain2", "embryo"])
    options = parser.parse_args()
    torch.set_num_threads(1)

    def make(task: str, seed: int) -> Record:
        return measure(embedded(task, seed, options.data, options.cache), seed, Protocol())

    for task, seed in tqdm([(t, s) for s in options.seeds for t in options.tasks], unit="run"):
        identity = {"task": task, "seed": seed}
        kept("polish", identity, partial(make, task, seed), options.out, fresh=options.fresh)


if __name__ == "__main__":
    main()
