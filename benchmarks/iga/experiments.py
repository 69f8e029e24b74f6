"""What the ellipsoids of IGA bring, in the plane and in space: JSON lines, and a table on the page of the family.

    python -m benchmarks.iga.experiments --data ../shared/data

Networks are trained and measured as those of ``benchmarks.iga.run``. In space the slides are quarters of the section of
``mouse_v1_starmap_3d``, one of which is placed. Every (task, variant, seed) is kept as a line of ``iga_experiments.jsonl``, and
an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.iga.run import PLAN, TRAINING, Arrays, embedded, run_one
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept
from benchmarks.tasks.tasks import Slides, Task, split
from ipar.training import FlowTraining, MinisetPlan

SPACE = Task("v1_3d", "mouse_v1_starmap_3d.h5ad", "block 4", None, "mouse visual cortex, STARmap, four blocks in space")
TASKS = ("brain2", "embryo", SPACE.name)


@dataclass(frozen=True)
class Variant:
    """What is denoised, and the weight of the ellipsoids' losses beside those of the pose."""

    ellipsoid: float = 1.0
    switches: dict[str, Any] = field(default_factory=dict)


VARIANTS = {
    "pose and ellipsoid": Variant(),
    "… weight 0.25": Variant(0.25),
    "… weight 0": Variant(0.0),
    "pose only": Variant(switches={"corrupt_gaussians": False}),
}


def measure(
    variant: Variant, arrays: Arrays, seed: int, plan: MinisetPlan = PLAN, training: FlowTraining = TRAINING
) -> Record:
    """Train a variant and score it."""
    weights = replace(training.weights, ellipsoid=variant.ellipsoid)
    found = run_one(arrays, "curriculum", seed, plan, replace(training, weights=weights), **variant.switches)
    del found["history"], found["units"]
    return found


def in_blocks(adata: ad.AnnData) -> ad.AnnData:
    """The cells of a block of tissue as four slides in space, cut at the medians of x and y."""
    coords = np.asarray(adata.obsm["spatial3d"], dtype=np.float64)
    right, upper = (coords[:, :2] > np.median(coords[:, :2], axis=0)).T
    adata.obs["slide"] = [f"block {number}" for number in 1 + right + 2 * upper]
    adata.obsm["spatial"] = coords
    return adata


def slides_in_space(data: Path) -> Slides:
    """Training blocks and the one that is placed."""
    return split(in_blocks(ad.read_h5ad(data / SPACE.file)), SPACE)


def arrays_of(task: str, seed: int, options: argparse.Namespace) -> Arrays:
    """A task's slides, embedded, from the cache where they are there."""
    load = partial(slides_in_space, options.data) if task == SPACE.name else None
    return embedded(task, seed, options, load)


def main() -> None:
    """Run, or go on."""
    parser = parser_of(__doc__, seeds=range(2), page=False)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [(task, name, seed) for seed in options.seeds for task in options.tasks for name in VARIANTS]
    for task, name, seed in tqdm(jobs, unit="run"):

        def make(task: str = task, name: str = name, seed: int = seed) -> Record:
            return measure(VARIANTS[name], arrays_of(task, seed, options), seed)

        identity = {"task": task, "variant": name, "seed": seed}
        kept("iga_experiments", identity, make, options.out, fresh=options.fresh)


if __name__ == "__main__":
    main()
