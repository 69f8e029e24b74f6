"""Whether polishing helps: predictions of a left-out training slide, before and after ``optimise_coords(refine=True)``.

    python benchmarks/polish.py --data ../shared/data

Networks are trained on all training slides but one, which is placed and then polished with their gate. The task's test
slide has no part in it. Every (task, seed) is kept as a line of ``polish.jsonl``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

import family
from embedded import Embedded, embedded
from ipar.metrics import evaluate
from ipar.model import ConsensusPlan, IPALite
from ipar.training import MinisetPlan, Optimisation, fit_networks, gate_targets, optimise_layout
from records import kept

SCORES = ("luna_spearman", "knn_hit_20_ratio", "contact_f1_1", "procrustes_rmse", "coverage", "e_geo")


def measure(slides: Embedded, seed: int, budget: family.Budget) -> dict[str, Any]:
    """Scores of a left-out training slide before and after polishing."""
    plan = MinisetPlan(2 * budget.n_minisets, budget.size)
    options: dict[str, Any] = {"training": budget.training, "plan": plan, "refit": False, "random_state": seed}
    fit = fit_networks(slides.train, slides.coords, **options)
    h, truth = slides.train[fit.validation_slide], slides.coords[fit.validation_slide]
    mean = sum(budget.size) // 2
    consensus = ConsensusPlan(direct_max=budget.size[1], subset_size=mean, n_anchors=mean // 3)
    encoder: Any = None  # everything is embedded already
    model = IPALite(encoder, fit.net, fit.gate, fit.unseen_beta, plan.n_neighbors, consensus)
    coords = model.layout(
        h, far=h[:, h.shape[1] // 2 :], random_state=seed
    ).coords  # the half that was taught distances
    start = torch.from_numpy(coords)
    targets = gate_targets(torch.from_numpy(h), start, fit.gate, n_neighbors=plan.n_neighbors, random_state=seed)
    recipe = replace(Optimisation.polish(), subset_size=mean)
    polished = optimise_layout(start, targets, config=recipe, random_state=seed).coords.numpy()
    return {"before": scores(truth, coords), "after": scores(truth, polished)}


def scores(truth: np.ndarray, coords: np.ndarray) -> dict[str, float]:
    """Those that are shown."""
    found = evaluate(truth, coords, random_state=0)
    return {name: float(found[name]) for name in SCORES}


def main() -> None:
    """Run, or go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    family.add_arguments(parser)
    parser.add_argument("--tasks", nargs="+", default=family.TASKS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = family.Budget()
    for task, seed in tqdm([(t, s) for s in options.seeds for t in options.tasks], unit="run"):

        def make(task: str = task, seed: int = seed) -> dict[str, Any]:
            slides = embedded(task, seed, options.data, options.cache, max_cells=budget.max_cells)
            return measure(slides, seed, budget)

        result = kept("polish", {"task": task, "seed": seed}, make, options.out, fresh=options.fresh)
        tqdm.write(f"{task} {seed}: {result}")


if __name__ == "__main__":
    main()
