"""Time and peak memory of what users run, each in a process of its own.

    python benchmarks/speed.py --data ../shared/data --markdown docs/speed.md

Every figure comes with its limit on two CPU cores, where there is one. What was measured is kept as a line of
``speed.jsonl``, and not measured again without ``--fresh``. Times on shared machines are noisy; the machine should have nothing
else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from records import RESULTS, kept, read

_PAGE = """# Time and memory

What users wait for, each in a process of its own on {cpus} CPU cores without a GPU, and the limits that ipar keeps to. Made
with

```bash
{command}
```

{table}

Training takes steps of sets of some hundred cells, whose number grows only slowly with that of the cells; what grows with the
cells is reading, embedding and scoring them. All genes that are given are read, so that a transcriptome of tens of thousands
of genes costs memory: `mask_var="highly_variable"` reads those that vary most. Prediction is linear in cells. The row with the
flow is of before expected errors drew samples of it, eighty passes of its network over 1,500 cells of a slide at most; the
flow's layout, which is in it, takes four over all of them. Of the methods of {{doc}}`benchmarks` every row has its time and
memory on the same slides there.
"""


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


def run_predict(options: argparse.Namespace, *, flow: bool = True) -> None:
    """Placing 100,000 cells: a real section's spots, drawn with replacement and thinned."""
    if not Path(options.model).is_dir():
        msg = f"No model in {options.model}: measure `fit` first, with --only fit --fresh."
        raise FileNotFoundError(msg)
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
    if not flow:
        model = replace(model, flow=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = time.perf_counter()
    ipar.tl.predict_coords(cells, model, progress=False)
    _report(time.perf_counter() - start, {"gib_before": round(before, 2)})


def run_fit_many(_: argparse.Namespace) -> None:
    """Training on three simulated slides of 20,000 cells and 500 genes, as imaging gives them."""
    import ipar

    train = ipar.datasets.layered_tissue(n_slides=3, n_cells=20_000)
    start = time.perf_counter()
    ipar.tl.fit_ipalite(train, "slide", flow=False, progress=False)
    _report(time.perf_counter() - start, {})


def run_sample(_: argparse.Namespace) -> None:
    """Sampling from an IGA, of cells at random: its time depends neither on weights nor on what is embedded."""
    import numpy as np

    from ipar.model import IGA
    from ipar.nn import EdgeGate, IGAConfig, IGANet

    encoder: Any = None  # samples are drawn from an embedding
    model = IGA(encoder, net=IGANet(IGAConfig(d_input=128)), gate=EdgeGate(128), n_neighbors=48)
    h = np.random.default_rng(0).normal(size=(5_000, 128)).astype(np.float32)
    start, used = time.perf_counter(), time.process_time()
    model.sample(h, 20, n_steps=50)
    _report(time.perf_counter() - start, {"cpu_seconds": round(time.process_time() - used, 1)})


def _report(seconds: float, extra: dict[str, object]) -> None:
    extra |= {"cpus": len(os.sched_getaffinity(0))}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("RESULT " + json.dumps({"seconds": round(seconds, 3), "peak_gib": round(peak, 2), **extra}))


@dataclass(frozen=True)
class Measurement:
    """What is measured, how the page calls it, and its limits in seconds and GiB."""

    title: str
    run: Callable[[argparse.Namespace], None]
    seconds: float | None = None
    gib: float | None = None


RUNS = {
    "import": Measurement("`import ipar`, without PyTorch", run_import, 0.5),
    "demo": Measurement(
        "`ipar demo`: simulate, train on two slides of 900 cells, place a third, score, draw", run_demo, 300
    ),
    "fit": Measurement("`fit_ipalite`: two brain sections, 2,300 spots", run_fit, 600, 3),
    "predict": Measurement("`predict_coords`: 100,000 cells, by the model of these sections", run_predict, 300, 4),
    "predict_no_flow": Measurement(
        "`predict_coords`: the same cells, without the flow (`flow=False`)", partial(run_predict, flow=False), 300, 4
    ),
    "fit_many": Measurement(
        "`fit_ipalite(flow=False)`: three simulated slides of 20,000 cells and 500 genes each", run_fit_many
    ),
    "sample": Measurement("`sample_coords` of IGA: 5,000 cells, 20 samples of 50 steps", run_sample, 600, 4),
}


def measure(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, "--data", options.data, "--model", options.model, "--one", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        msg = f"{name} failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def table(results: dict[str, dict[str, Any]]) -> str:
    """A row a measurement, beside its limits."""
    lines = ["| what | seconds | at most | peak GiB | at most |", "|---|---|---|---|---|"]
    for name, result in results.items():
        one = RUNS[name]
        seconds, gib = (f"{limit:g}" if limit else "" for limit in (one.seconds, one.gib))
        shown = f"{result['seconds']:.2f}" if result["seconds"] < 1 else f"{result['seconds']:.0f}"
        lines.append(f"| {one.title} | {shown} | {seconds} | {result['peak_gib']:.1f} | {gib} |")
    return "\n".join(lines)


def page(results: dict[str, dict[str, Any]], command: str) -> str:
    """The page of the documentation."""
    cpus = {result["cpus"] for result in results.values()}
    return _PAGE.format(cpus=", ".join(map(str, sorted(cpus))), table=table(results), command=command)


def main() -> None:
    """Measure what is not yet measured, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument(
        "--only", nargs="+", choices=RUNS, default=list(RUNS), help="what to measure; all, if not given"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    parser.add_argument(
        "--model", default="benchmarks/results/cache/speed", help="folder of the model that `fit` saves"
    )
    parser.add_argument("--markdown", type=Path, default=None, help="page to write, of all that is measured")
    parser.add_argument("--one", default=None, choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        RUNS[options.one].run(options)
        return
    for name in options.only:
        kept("speed", {"name": name}, partial(measure, name, options), options.out, fresh=options.fresh)
    found = {record["name"]: record for record in read("speed", options.out)}
    results = {name: found[name] for name in RUNS if name in found}
    print(table(results))
    if options.markdown:
        command = f"python benchmarks/speed.py --data {options.data} --markdown {options.markdown}"
        options.markdown.write_text(page(results, command))


if __name__ == "__main__":
    main()
