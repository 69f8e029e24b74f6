"""The three attention geometries of IGA side by side: a section of docs/iga.md, a picture, and JSON lines.

    python -m benchmarks.iga.run --data ../shared/data --seeds 0 1 2 --markdown docs/iga.md

For every task and seed the training slides are embedded once (cross-fitted; only the training slides' coordinates are
read), and three networks that differ in ``attention_geometry`` alone are trained on the same sets from the same weights.
The slide that is not trained on then gives the losses and the accuracy that are compared; it plays no part in any choice.
Every run is kept as a line of ``iga.jsonl``: an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import anndata as ad
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

import ipar
from benchmarks.iga.report import write_section
from benchmarks.iga.scores import scores_of
from benchmarks.tasks import tasks
from benchmarks.tasks.embedded import slide_set, unplaced
from benchmarks.tasks.options import command_of, parser_of
from benchmarks.tasks.records import Record, kept
from ipar.model.flow import Flow, aligned_samples
from ipar.nn import EdgeGate, IGAConfig, IGANet
from ipar.nn.gate import dense_gate
from ipar.nn.pose_flow import follow_flow, noise_poses
from ipar.training import EncoderRecipe, EncoderTraining, Folds, MinisetPlan, Run, SetEncoderTraining, fit_embedding
from ipar.training.flow_losses import couple
from ipar.training.flow_training import FlowTrainer, FlowTraining, validate_flow
from ipar.training.pose_sets import PoseSet, collate_poses, ellipse_units, sample_pose_sets
from ipar.training.taught import embed_slide

MODES = ("current", "clean", "curriculum")
TASKS = ("brain2", "embryo")
MAX_CELLS = 1000  # of a slide
PLAN = MinisetPlan(n_minisets=32, size=(96, 128), n_neighbors=32)
TRAINING, N_BLOCKS = FlowTraining(max_epochs=40, batch_size=4), 2
N_EVALUATED, N_SAMPLES, N_STEPS = 4, 8, 20
RECIPE = EncoderRecipe(
    inputs="pca",
    pca_training=EncoderTraining(n_steps=300, batch_size=384, noise=0.5, scale=1.0),  # half of the usual
    set_encoder_training=SetEncoderTraining(n_steps=2),  # a flow reads no global features
)
_LOSSES = ("translation", "rotation", "auxiliary", "local_mean", "scaling")

Arrays = dict[str, NDArray[np.float32]]
"""Embeddings h, coordinates x and ellipses e of training slides (``"h0"``), and of the query (``"hq"``)."""


def embedded(
    task: str, seed: int, options: argparse.Namespace, load: Callable[[], tasks.Slides] | None = None
) -> Arrays:
    """A task's slides, from the cache where they are there; ``load`` reads them in place of the table of tasks."""
    path = options.cache / "iga" / f"{task}-{seed}.npz"
    if not path.is_file():
        found = embed(load() if load else tasks.load(tasks.TASKS[task], options.data), seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **found)
    with np.load(path) as stored:
        return dict(stored)


def embed(slides: tasks.Slides, seed: int, recipe: EncoderRecipe = RECIPE) -> Arrays:
    """Cross-fit the encoder on the training slides, and embed the query."""
    rng, run = np.random.default_rng(seed), Run(seed)
    names = slides.train.obs["slide"].to_numpy()
    some = [rng.permutation(np.flatnonzero(names == name))[:MAX_CELLS] for name in np.unique(names)]
    known = slide_set(slides.train[np.sort(np.concatenate(some))].copy())
    chosen = np.sort(rng.permutation(slides.query.n_obs)[:MAX_CELLS])
    fit = fit_embedding(known, Folds.of(known.sizes, run, n_folds=recipe.n_folds), recipe, run)
    query = embed_slide(fit.encoder, unplaced(slides.query[chosen])).embedding
    found = _arrays("q", query, slides.truth[chosen])  # the truth is for losses and the upper bound
    for i, (h, coords) in enumerate(zip(fit.cross_fitted, known.coords, strict=True)):
        found |= _arrays(str(i), h, coords)
    return found


def _arrays(name: str, h: NDArray[np.float32], coords: NDArray[np.floating]) -> Arrays:
    cells = ad.AnnData(obsm={"spatial": coords})
    ipar.pp.cell_ellipses(cells)
    centred = (coords - coords.mean(axis=0)).astype(np.float32)
    return {f"h{name}": h, f"x{name}": centred, f"e{name}": cells.obsm["ellipse"].astype(np.float32)}


def poses(arrays: Arrays, names: Sequence[str], plan: MinisetPlan, seed: int) -> list[PoseSet]:
    """Pose sets of some slides."""
    h, x, ellipses = ([torch.from_numpy(arrays[f"{part}{name}"]) for name in names] for part in "hxe")
    options: dict[str, Any] = {"size": plan.size, "n_neighbors": plan.n_neighbors, "random_state": seed}
    return sample_pose_sets(h, x, ellipses, plan.n_minisets, **options)


def run_one(
    arrays: Arrays, mode: str, seed: int, plan: MinisetPlan = PLAN, training: FlowTraining = TRAINING, **switches: Any
) -> Record:
    """Train one network, with other switches of its config, and measure it on the slide that it was not trained on."""
    sets = poses(arrays, [name[1:] for name in arrays if name[0] == "h" and name != "hq"], plan, seed)
    largest = MinisetPlan(N_EVALUATED, (plan.size[1], plan.size[1]), plan.n_neighbors)
    unseen, run = poses(arrays, ["q"], largest, seed + 1), Run(seed)
    units, width = ellipse_units(sets), arrays["hq"].shape[1]
    shape: dict[str, Any] = {"n_dims": arrays["xq"].shape[1], "d_input": width, "n_blocks": N_BLOCKS, "units": units}
    config = IGAConfig(attention_geometry=mode, **shape | switches)
    with run.seeded():
        net, gate = IGANet(config), EdgeGate(width)
    start = time.process_time()
    history = FlowTrainer(net, gate, training, run).fit(sets).history
    seconds, flow = time.process_time() - start, Flow(net, gate, plan.n_neighbors, plan.size)
    tail = history.tail(max(training.max_epochs // 5, 1)).mean(numeric_only=True)
    shown = history.drop(columns=[c for c in history if c.startswith("val_")])
    return {
        "history": shown.round(5).to_dict("list"),
        "train": {name: float(tail[name]) for name in _LOSSES},
        "unseen": validate_flow(net, gate, unseen, random_state=seed),
        "predicted": accuracy(flow, unseen, seed, clean=False),
        "true": accuracy(flow, unseen, seed, clean=True),
        "units": asdict(units),
        "cpu_seconds": seconds,
    }


def accuracy(flow: Flow, sets: Sequence[PoseSet], seed: int, *, clean: bool) -> dict[str, float]:
    """Scores of sampled layouts of sets, attention on the true Gaussians or on those that the flow itself predicts."""
    rows = []
    for number, one in enumerate(sets):
        batch = collate_poses([one] * N_SAMPLES)
        h, candidates = batch.minisets.h, batch.minisets.candidates
        generator = torch.Generator().manual_seed(1000 * seed + number)
        noise = noise_poses((N_SAMPLES, len(one)), flow.net.config, generator)
        with torch.no_grad():
            condition = flow.net.condition(h, candidates, dense_gate(flow.gate, h, candidates))
            shown = couple(batch.rigid, noise) if clean else None
            samples = aligned_samples(follow_flow(flow.net, condition, noise, N_STEPS, clean=shown))
        rows.append(scores_of(one.miniset.coords.numpy(), one.rigid, samples))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def main() -> None:
    """Run, or continue, and write the section."""
    parser = parser_of(__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--embed-only", action="store_true", help="make the embeddings and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    jobs = [(task, seed) for task in options.tasks for seed in options.seeds]
    for task, seed in tqdm([] if options.report_only else jobs, unit="embedding"):
        arrays = embedded(task, seed, options)
        for mode in options.modes if not options.embed_only else ():
            identity = {"task": task, "mode": mode, "seed": seed}
            kept("iga", identity, partial(run_one, arrays, mode, seed), options.out, fresh=options.fresh)
    if options.markdown:
        write_section(options, settings(), command_of("benchmarks.iga.run"))


def settings() -> dict[str, Any]:
    """What the section says of how the runs were made."""
    return {
        "n_blocks": N_BLOCKS,
        "n_sets": PLAN.n_minisets,
        "size": PLAN.size,
        "n_neighbors": PLAN.n_neighbors,
        "max_cells": MAX_CELLS,
        "n_epochs": TRAINING.max_epochs,
        "n_batches": PLAN.n_minisets // TRAINING.batch_size,
        "n_evaluated": N_EVALUATED,
        "n_samples": N_SAMPLES,
        "n_steps": N_STEPS,
    }


if __name__ == "__main__":
    main()
