"""The three attention geometries of IGA side by side: a section of docs/iga.md, a picture, and JSON.

    python benchmarks/iga_modes.py --data ../shared/data --seeds 0 1 2

For every task and seed the training slides are embedded once (cross-fitted; only the training slides' coordinates are
read), and three networks that differ in ``attention_geometry`` alone are trained on the same sets from the same weights.
The slide that is not trained on then gives the losses and the accuracy that are compared; it plays no part in any choice.
Every run is kept as a line of ``iga.jsonl``: an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from records import RESULTS, kept

MODES = ("current", "clean", "curriculum")
TASKS = ("brain2", "embryo")
MAX_CELLS = 1000  # of a slide
N_SETS, SET_SIZE, N_NEIGHBORS = 32, (96, 128), 32
N_EPOCHS, N_BLOCKS, BATCH_SIZE = 40, 2, 4
N_EVALUATED, N_SAMPLES, N_STEPS = 4, 8, 20

Arrays = dict[str, Any]


def embedded(task: str, seed: int, options: argparse.Namespace) -> Arrays:
    """Embeddings, coordinates and ellipses of a task's slides, from the cache where they are there."""
    path = Path(options.cache) / f"{task}-{seed}.npz"
    if not path.is_file():
        found = _embed(task, seed, options.data)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **found)
    with np.load(path) as stored:
        return dict(stored)


def _embed(task: str, seed: int, data: Path) -> Arrays:
    import ipar
    import tasks
    from ipar.training import EncoderRecipe, EncoderTraining, OverviewTraining

    slides = tasks.load(tasks.TASKS[task], data)
    rng = np.random.default_rng(seed)
    names = slides.train.obs["slide"].to_numpy()
    kept = np.concatenate([rng.permutation(np.flatnonzero(names == name))[:MAX_CELLS] for name in np.unique(names)])
    train = slides.train[np.sort(kept)].copy()
    chosen = np.sort(rng.permutation(slides.query.n_obs)[:MAX_CELLS])
    query, truth = slides.query[chosen].copy(), slides.truth[chosen]
    few = EncoderTraining(n_steps=300, batch_size=384, noise=0.5, scale=1.0)  # half of the usual
    recipe = EncoderRecipe(pca_training=few, overview_training=OverviewTraining(n_steps=2))  # IGA reads no overview
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ipar.pp.LocalisabilityWarning)
        ipar.pp.embed(train, "slide", inputs="pca", recipe=recipe, random_state=seed, progress=False)
    ipar.pp.cell_ellipses(train, library_key="slide")
    query.obsm["spatial"] = truth  # after embedding; for the ellipses that losses and the upper bound need
    ipar.pp.cell_ellipses(query)
    encoder = ipar.pp._embed.stored_encoder(train)
    embedding = encoder.transform(query.X, query.var_names, query.obs["slide"].cat.remove_unused_categories().array)
    centred = (truth - truth.mean(axis=0)).astype(np.float32)
    found = {"q_h": embedding, "q_x": centred, "q_e": query.obsm["ellipse"]}
    for i, name in enumerate(train.obs["slide"].cat.categories):
        own = train[train.obs["slide"] == name]
        coords = own.obsm["spatial"] - own.obsm["spatial"].mean(axis=0)
        found |= {f"h{i}": own.obsm["X_ipar_embed"], f"x{i}": coords.astype(np.float32), f"e{i}": own.obsm["ellipse"]}
    return found


def run_one(task: str, mode: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train one network and measure it on the slide that it was not trained on."""
    from ipar.training._fit_iga import draw_poses, train_flow

    from ipar.nn import IGAConfig
    from ipar.training import FlowTraining, MinisetPlan
    from ipar.training.flow_training import validate_flow
    from ipar.training.pose_sets import ellipse_units

    arrays = embedded(task, seed, options)
    slides = [tuple(torch.from_numpy(arrays[f"{part}{i}"]) for part in "hxe") for i in range(len(arrays) // 3 - 1)]
    query = tuple(torch.from_numpy(arrays[f"q_{part}"]) for part in "hxe")
    sets = draw_poses(slides, MinisetPlan(N_SETS, SET_SIZE, N_NEIGHBORS), seed)
    unseen = draw_poses([query], MinisetPlan(N_EVALUATED, (SET_SIZE[1], SET_SIZE[1]), N_NEIGHBORS), seed + 1)
    config = IGAConfig(
        d_input=slides[0][0].shape[1], n_blocks=N_BLOCKS, attention_geometry=mode, units=ellipse_units(sets)
    )
    start = time.process_time()
    net, gate, run = train_flow(sets, (), config, FlowTraining(max_epochs=N_EPOCHS, batch_size=BATCH_SIZE), None, seed)
    seconds = time.process_time() - start
    tail = run.history.tail(max(N_EPOCHS // 5, 1)).mean(numeric_only=True)
    return {
        "history": run.history.drop(columns=[c for c in run.history if c.startswith("val_")]).round(5).to_dict("list"),
        "train": {
            name: float(tail[name]) for name in ("translation", "rotation", "auxiliary", "local_mean", "scaling")
        },
        "unseen": validate_flow(net, gate, unseen, random_state=seed),
        "predicted": accuracy(net, gate, unseen, seed, clean=False),
        "true": accuracy(net, gate, unseen, seed, clean=True),
        "units": asdict(config.units),
        "cpu_seconds": seconds,
    }


def accuracy(net: Any, gate: Any, sets: list[Any], seed: int, *, clean: bool) -> dict[str, float]:
    """Scores of sampled layouts of sets, attention on the true Gaussians or on those that the flow itself predicts."""
    from ipar.model.iga import aligned_samples
    from ipar.nn import dense_gate, follow_flow, noise_poses
    from ipar.training.flow_losses import couple
    from ipar.training.pose_sets import collate_poses

    rows = []
    for number, one in enumerate(sets):
        batch = collate_poses([one] * N_SAMPLES)
        scores = dense_gate(gate, batch.minisets.h, batch.minisets.candidates)
        generator = torch.Generator().manual_seed(1000 * seed + number)
        noise = noise_poses((N_SAMPLES, len(one)), net.config, generator)
        with torch.no_grad():
            condition = net.condition(batch.minisets.h, batch.minisets.candidates, scores)
            shown = couple(batch.rigid, noise) if clean else None
            samples = aligned_samples(follow_flow(net, condition, noise, N_STEPS, clean=shown))
        truth = one.miniset.coords.numpy()
        rows.append(_scores(truth, samples) | _ellipse_errors(one.rigid, samples))
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _scores(truth: NDArray[np.float32], samples: Any) -> dict[str, float]:
    from ipar import metrics

    mean = samples.point("mean")
    errors = [metrics.procrustes_error(truth, layout).rmse for layout in samples.coords]
    return {
        "sample_rmse": float(np.mean(errors)),
        "mean_rmse": metrics.procrustes_error(truth, mean).rmse,
        "luna_spearman": metrics.luna_spearman(truth, mean),
        "knn_hit_20": metrics.knn_hit(truth, mean, n_neighbors=20),
        "uncertainty_spearman": metrics.uncertainty_spearman(metrics.cell_errors(truth, mean), samples.uncertainty),
    }


def _ellipse_errors(rigid: Any, samples: Any) -> dict[str, float]:
    """Root mean squared error of predicted log-scales."""
    predicted = np.log(samples.ellipses[..., 2:4])
    return {"log_scale_rmse": float(np.sqrt(np.square(predicted - rigid.scaling_log.numpy()).mean()))}


def cached(task: str, mode: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The result of one run, from what was kept where it is there."""
    identity = {"task": task, "mode": mode, "seed": seed}
    return kept("iga", identity, lambda: run_one(task, mode, seed, options), options.out, fresh=options.fresh)


def main() -> None:
    """Run, or continue, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    parser.add_argument("--cache", default="benchmarks/results/cache/iga_modes", help="folder of the embeddings")
    parser.add_argument("--markdown", type=Path, default=None, help="page whose generated part is replaced")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--embed-only", action="store_true", help="make the embeddings and stop")
    parser.add_argument("--report-only", action="store_true", help="write the page from what has been run so far")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for task in options.tasks if not options.report_only else ():
        for seed in options.seeds:
            if options.embed_only:
                embedded(task, seed, options)
                continue
            for mode in options.modes:
                start = time.perf_counter()
                cached(task, mode, seed, options)
                print(task, mode, seed, f"{time.perf_counter() - start:.0f} s", flush=True)
    if options.markdown:
        from iga_report import write_section

        write_section(options, shlex.join(["python", *sys.argv]))


if __name__ == "__main__":
    main()
