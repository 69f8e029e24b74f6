"""Time and peak memory of what users run, each in a process of its own.

    python benchmarks/speed.py --data ../shared/data --json benchmarks/results/speed.json

Every figure comes with its limit on two CPU cores. Times on shared machines are noisy: medians over ``--repeats``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMITS = {  # seconds, GiB
    "import ipar": (0.5, None),
    "ipar demo": (300.0, None),
    "fit_ipalite, brain2": (600.0, 3.0),
    "predict_coords, 100,000 cells": (300.0, 4.0),
    "sample_coords, 5,000 cells, 20 samples, 50 steps": (600.0, 4.0),
}


def run_import(_: argparse.Namespace) -> None:
    """Import the package and make sure that it stays light."""
    start = time.perf_counter()
    import ipar  # noqa: F401

    seconds = time.perf_counter() - start
    loaded = [name for name in ("torch", "matplotlib.pyplot") if name in sys.modules]
    _report(seconds, {"loaded": loaded})


def run_demo(_: argparse.Namespace) -> None:
    """The demonstration, from start to end."""
    from ipar._cli import main

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        main(["demo", "--quiet", "-o", folder])
        _report(time.perf_counter() - start, {})


def _brain2(data: str) -> tuple[object, object]:
    import anndata as ad
    import scanpy as sc

    brain = ad.read_h5ad(Path(data) / "mouse_brain_st.h5ad")
    sc.pp.normalize_total(brain, target_sum=1e4)
    sc.pp.log1p(brain)
    train = brain[brain.obs["slide"].isin(["Hippo1", "Hippo2"])].copy()
    return train, brain[brain.obs["slide"] == "Hippo3"].copy()


def run_fit(options: argparse.Namespace) -> None:
    """Training on two real sections; the model is kept for the prediction."""
    import ipar

    train, _ = _brain2(options.data)
    start = time.perf_counter()
    model = ipar.tl.fit_ipalite(train, "slide", progress=False)
    seconds = time.perf_counter() - start
    model.save(options.model)
    history = train.uns["ipar"]["history"]
    _report(seconds, {"epochs": len(history), "best_epoch": int(train.uns["ipar"]["history_best"])})


def run_predict(options: argparse.Namespace) -> None:
    """Placing 100,000 cells: a real section's spots, drawn with replacement and thinned."""
    import anndata as ad
    import numpy as np
    import scanpy as sc
    from scipy import sparse

    import ipar

    brain = ad.read_h5ad(Path(options.data) / "mouse_brain_st.h5ad")
    counts = sparse.csr_matrix(brain[brain.obs["slide"] == "Hippo3"].X)
    rng = np.random.default_rng(0)
    many = counts[rng.integers(counts.shape[0], size=100_000)]
    many.data = rng.binomial(many.data.astype(np.int64), 0.7).astype(np.float32)
    many.eliminate_zeros()
    cells = ad.AnnData(many, var=brain.var)
    cells.obs_names_make_unique()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    model = ipar.load(options.model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    ipar.tl.predict_coords(cells, model, progress=False)
    _report(time.perf_counter() - start, {"gib_before": round(before, 2)})


def run_sample(_: argparse.Namespace) -> None:
    """Sampling from an IGA of the default shape; its time does not depend on its weights, nor on what is embedded."""
    import numpy as np

    from ipar.model import IGA
    from ipar.nn import EdgeGate, IGAConfig, IGANet

    model = IGA(encoder=None, net=IGANet(IGAConfig()), gate=EdgeGate(128), n_neighbors=48)
    h = np.random.default_rng(0).normal(size=(5_000, 128)).astype(np.float32)
    start, used = time.perf_counter(), time.process_time()
    model.sample(h, 20, n_steps=50)
    _report(time.perf_counter() - start, {"cpu_seconds": round(time.process_time() - used, 1)})


def _report(seconds: float, extra: dict[str, object]) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("RESULT " + json.dumps({"seconds": round(seconds, 3), "peak_gib": round(peak, 2), **extra}))


RUNS = {
    "import ipar": run_import,
    "ipar demo": run_demo,
    "fit_ipalite, brain2": run_fit,
    "predict_coords, 100,000 cells": run_predict,
    "sample_coords, 5,000 cells, 20 samples, 50 steps": run_sample,
}


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, "--data", options.data, "--model", options.model, "--one", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        msg = f"{name} failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def main() -> None:
    """Measure everything and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--repeats", type=int, default=3, help="of the import; everything else runs once")
    parser.add_argument("--json", default=None)
    parser.add_argument("--model", default=None, help=argparse.SUPPRESS)
    parser.add_argument("--one", default=None, choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        RUNS[options.one](options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.model = str(Path(folder) / "model")
        results = {}
        for name in RUNS:
            found = [measure(name, options) for _ in range(options.repeats if name == "import ipar" else 1)]
            results[name] = found[-1] | {"seconds": statistics.median(float(str(r["seconds"])) for r in found)}
    print("| what | seconds | limit | peak GiB | limit |\n|---|---|---|---|---|")
    for name, result in results.items():
        seconds, memory = LIMITS[name]
        print(f"| {name} | {result['seconds']:.2f} | {seconds:g} | {result['peak_gib']:.2f} | {memory or '–'} |")
    if options.json:
        report = {"cpus": len(os.sched_getaffinity(0)), "results": results}
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
