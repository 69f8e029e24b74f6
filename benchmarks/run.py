r"""ipar beside every control on the real tasks: two markdown pages and JSON lines.

    python benchmarks/run.py --data ../shared/data --seeds 0 1 2 --jobs 2 --markdown docs/benchmarks.md \
        --tables benchmarks/tables.md

Every (task, method, seed) runs in a process of its own, which measures its time and peak memory, and is kept as a line
of ``benchmarks.jsonl`` under ``--out``: an interrupted run goes on where it stopped. ``--fresh`` measures again. The page shows published
peers too, where ``peers/run.py`` has measured them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from pages import questions, tables
from pages.comparisons import PEERS
from records import RESULTS, kept, read

TASKS = ["brain2", "brain7", "brain7b", "embryo", "embryo_b", "ob", "liver"]
METHODS = [
    *("ipar", "ipar_no_flow", "iga", "distance_embedding", "common_frame_mlp", "set_transformer", "ridge"),
    *("pca_knn", "pca_umap", "ipar_plain", "ipar_no_flow_plain", "iga_plain"),
    *("distance_embedding_uncentred", "common_frame_mlp_uncentred", "set_transformer_uncentred", "ridge_uncentred"),
    *("cell_type_centroids", "permuted", "within_slide_mlp"),
]


def run_one(task_name: str, method: str, seed: int, data: Path) -> dict[str, Any]:
    """Run one method on one task in this process."""
    import controls
    import ipar
    import tasks

    slides = tasks.load(tasks.TASKS[task_name], data)
    extra: dict[str, Any] = {}
    start = time.perf_counter()
    try:
        if method in PLACE:
            coords, uncertainty, extra = PLACE[method](slides.train, slides.query, seed)
        elif method in controls.CONTROLS:
            coords = controls.CONTROLS[method](slides.train, slides.query, seed)
        else:
            coords = controls.WITH_TRUTH[method](slides.query, slides.truth, seed)
    except controls.NotApplicableError as reason:
        return {"skipped": str(reason)}
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    scores = ipar.metrics.evaluate(slides.truth, coords, random_state=0)
    if method in PLACE:
        errors = ipar.metrics.cell_errors(slides.truth, coords)
        scores["uncertainty_spearman"] = ipar.metrics.uncertainty_spearman(errors, uncertainty)
        scores["certain_half_error"] = ipar.metrics.certain_half_error(errors, uncertainty)
        scores["certain_half_median"] = certain_half_median(errors, uncertainty)
        scores["certain_half_median_bound"] = certain_half_median(errors, errors)  # no order of the cells has less
    return {"scores": scores, "seconds": seconds, "peak_gib": peak, **extra}


def certain_half_median(errors: NDArray[np.float64], uncertainty: NDArray[np.float64]) -> float:
    """Median error of the half of the cells that is more certain, over the median error of all."""
    certain = uncertainty <= np.median(uncertainty)
    return float(np.median(errors[certain]) / np.median(errors))


def place_with_ipar(
    train: Any, query: Any, seed: int, *, flow: bool = True, plain: bool = False
) -> tuple[Any, Any, dict[str, Any]]:
    """The documented default, without a flow, or of plain components: fit, predict; coordinates, expected errors, and choices."""
    import ipar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ipar.pp.LocalisabilityWarning)  # reported as a figure instead
        if plain:
            embed_plain(train, seed)
        model = ipar.tl.fit_ipalite(train, library_key="slide", flow=flow, random_state=seed, progress=False)
        ipar.tl.predict_coords(query, model, random_state=seed, progress=False)
    verdict = {k: float(v) for k, v in train.uns["ipar"]["localisability"].items() if k != "folds"}
    chosen = {"beta": model.beta, "epochs": int(model.record["best_epoch"]) + 1, **model.encoder.record}
    chosen |= {
        "overview_weight": model.encoder.overview_weight,
        "sketch": model.encoder.sketch is not None,
        "global_weight": model.global_weight,
        "sharpening": model.sharpening and asdict(model.sharpening),
        "finish": json.loads(train.uns["ipar"]["fit"]["finish"].to_json(orient="records", double_precision=4)),
    }
    uncertainty = query.obs["ipar_uncertainty"].to_numpy()
    return query.obsm["X_ipar"], uncertainty, {"localisability": verdict, "chosen": chosen}


def embed_plain(train: Any, seed: int) -> None:
    """The embedding of principal components alone, all genes alike, for a fit to find."""
    import ipar
    from ipar.training import EncoderRecipe

    recipe = EncoderRecipe(n_pcs=(30, 100), spatial_share=0.0, weigh_genes=False)
    ipar.pp.embed(train, "slide", recipe=recipe, random_state=seed, progress=False)


def place_with_iga(train: Any, query: Any, seed: int, *, plain: bool = False) -> tuple[Any, Any, dict[str, Any]]:
    """The documented default, or of plain components: fit, sample; the mean of the samples, and their spread."""
    import ipar

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ipar.pp.LocalisabilityWarning)
        if plain:
            embed_plain(train, seed)
        model = ipar.tl.fit_iga(train, library_key="slide", random_state=seed, progress=False)
        ipar.tl.sample_coords(query, model, random_state=seed, progress=False)
    chosen = {
        "epochs": int(model.record["best_epoch"]) + 1,
        **model.encoder.record,
        "sharpening": model.sharpening and asdict(model.sharpening),
        "finish": json.loads(train.uns["ipar"]["fit"]["finish"].to_json(orient="records", double_precision=4)),
    }
    return query.obsm["X_ipar"], query.obs["ipar_uncertainty"].to_numpy(), {"chosen": chosen}


PLACE = {
    "ipar": place_with_ipar,
    "ipar_no_flow": partial(place_with_ipar, flow=False),
    "iga": place_with_iga,
    "ipar_plain": partial(place_with_ipar, plain=True),
    "ipar_no_flow_plain": partial(place_with_ipar, flow=False, plain=True),
    "iga_plain": partial(place_with_iga, plain=True),
}


def cached(task: str, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The result of one run, from what was kept where it is there."""
    identity = {"task": task, "method": method, "seed": seed}
    return kept(
        "benchmarks", identity, lambda: in_process(task, method, seed, options), options.out, fresh=options.fresh
    )


def in_process(task: str, method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The result of one run in a process of its own."""
    command = [sys.executable, __file__, "--data", str(options.data), "--one", task, method, str(seed)]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | threads)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        msg = f"{method} on {task}, seed {seed}, failed:\n{done.stderr[-3000:]}"
        raise RuntimeError(msg)
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result | {"threads": options.threads, "jobs": options.jobs}


def run_all(options: argparse.Namespace) -> None:
    """Measure what has not been measured yet."""
    jobs = [(t, m, s) for m in options.methods for t in options.tasks for s in options.seeds]
    with ThreadPoolExecutor(options.jobs) as pool, tqdm(total=len(jobs), unit="run") as bar:

        def work(job: tuple[str, str, int]) -> None:
            cached(*job, options)
            bar.set_postfix_str(" ".join(map(str, job)))
            bar.update()

        list(pool.map(work, jobs))  # raises what a job raised


def stored(options: argparse.Namespace) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What has been measured so far, as ``[task][method] → one a seed``: methods may lack seeds; peers stand last."""
    by_run = {(run["task"], run["method"], run["seed"]): run for run in read("benchmarks", options.out)}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for task in options.tasks:
        for method in [*options.methods, *PEERS]:
            runs = [run for seed in options.seeds if (run := by_run.get((task, method, seed)))]
            if runs:
                found.setdefault(task, {})[method] = runs
    return found


def main() -> None:
    """Run, or continue, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1, help="of one run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    parser.add_argument("--markdown", type=Path, default=None, help="page to write; printed, if not given")
    parser.add_argument("--tables", type=Path, default=None, help="page of all tables to write")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--report-only", action="store_true", help="write the page from what has been measured so far")
    parser.add_argument("--one", nargs=3, default=None, metavar=("TASK", "METHOD", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        task, method, seed = options.one
        print("RESULT " + json.dumps(run_one(task, method, int(seed), options.data)))
        return
    if not options.report_only:
        run_all(options)
    found = stored(options)
    if options.tables:
        options.tables.write_text(tables.page(found, options))
    if options.markdown:
        questions.write(found, options.markdown)
    else:
        print(questions.page(found))


if __name__ == "__main__":
    main()
