"""Time and peak memory of what users run, each in a process of its own.

    python -m benchmarks.speed --data ../shared/data --markdown docs/speed.md

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
from typing import TYPE_CHECKING

from benchmarks.tasks.options import command_of, parser_of, write_page
from benchmarks.tasks.records import Record, kept, read

if TYPE_CHECKING:
    import anndata as ad

_MODEL, _N_PLACED = "speed", 100_000
ROOT = Path(__file__).resolve().parents[1]
_PAGE = """# Time and memory

Each row runs in a process of its own on {cpus} CPU cores without a GPU. Beside it stand the limits that ipar keeps to. Made
with

```bash
{command}
```

{table}

Training takes a fixed number of steps per epoch on small sets, so its time grows slowly with the number of cells. Reading,
embedding and scoring grow with it. All given genes are read, so a whole transcriptome costs memory:
`mask_var="highly_variable"` reads those that vary most. Prediction is linear in cells. The rows of `predict_coords` were
measured with an earlier version, whose expected errors drew no samples of the flow. {{doc}}`benchmarks` shows what every method
costs on real slides.
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
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "ipar", "demo", "--quiet", "-o", folder], check=True)
        _report(time.perf_counter() - start, {})


def brain(data: Path, slides: list[str]) -> ad.AnnData:
    """Counts of some sections."""
    import anndata as ad

    found = ad.read_h5ad(data / "mouse_brain_st.h5ad")
    return found[found.obs["slide"].isin(slides)].copy()


def _normalise(adata: ad.AnnData) -> None:
    import scanpy as sc

    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)


def run_fit(options: argparse.Namespace) -> None:
    """Training on two real sections; the model is kept for the prediction."""
    import ipar

    train = brain(options.data, ["Hippo1", "Hippo2"])
    _normalise(train)
    start = time.perf_counter()
    model = ipar.tl.fit_ipalite(train, "slide", progress=False)
    seconds = time.perf_counter() - start
    model.save(options.cache / _MODEL)
    history = train.uns["ipar"]["history"]
    _report(seconds, {"epochs": len(history), "best_epoch": int(train.uns["ipar"]["history_best"])})


def run_predict(options: argparse.Namespace, *, flow: bool = True) -> None:
    """Placing 100,000 cells: a real section's spots, drawn with replacement and thinned."""
    if not (options.cache / _MODEL).is_dir():
        msg = f"No model in {options.cache}: measure `fit` first, with --only fit --fresh."
        raise FileNotFoundError(msg)
    import anndata as ad
    import numpy as np
    from scipy import sparse

    import ipar

    section = brain(options.data, ["Hippo3"])
    counts = sparse.csr_matrix(section.X)
    rng = np.random.default_rng(0)
    many = counts[rng.integers(counts.shape[0], size=_N_PLACED)]
    many.data = rng.binomial(many.data.astype(np.int64), 0.7).astype(np.float32)
    many.eliminate_zeros()
    cells = ad.AnnData(many, var=section.var)
    cells.obs_names_make_unique()
    _normalise(cells)
    model = ipar.load(options.cache / _MODEL)
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
    """Sampling from a flow, of cells at random: its time depends neither on weights nor on what is embedded."""
    import numpy as np

    from ipar.model.flow import Flow
    from ipar.nn import EdgeGate, IGAConfig, IGANet

    flow = Flow(IGANet(IGAConfig(d_input=128)), EdgeGate(128))
    h = np.random.default_rng(0).normal(size=(5_000, 128)).astype(np.float32)
    start, used = time.perf_counter(), time.process_time()
    flow.sample(h, 20, n_steps=50)
    _report(time.perf_counter() - start, {"cpu_seconds": round(time.process_time() - used, 1)})


def _report(seconds: float, extra: dict[str, object]) -> None:
    extra |= {"cpus": len(os.sched_getaffinity(0))}
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
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


def measure(name: str, options: argparse.Namespace) -> Record:
    """Run one measurement in a fresh process."""
    folders = {"--data": options.data, "--cache": options.cache}
    given = [part for flag, folder in folders.items() for part in (flag, str(Path(folder).resolve()))]
    command = [sys.executable, "-m", "benchmarks.speed", *given, "--one", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        msg = f"{name} failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def table(results: dict[str, Record]) -> str:
    """A row per measurement, beside its limits."""
    lines = ["| what | seconds | at most | peak GiB | at most |", "|---|---|---|---|---|"]
    for name, result in results.items():
        one = RUNS[name]
        seconds, gib = (f"{limit:g}" if limit else "" for limit in (one.seconds, one.gib))
        shown = f"{result['seconds']:.2f}" if result["seconds"] < 1 else f"{result['seconds']:.0f}"
        lines.append(f"| {one.title} | {shown} | {seconds} | {result['peak_gib']:.1f} | {gib} |")
    return "\n".join(lines)


def page(results: dict[str, Record], command: str) -> str:
    """The page of the documentation."""
    cpus = {result["cpus"] for result in results.values()}
    return _PAGE.format(cpus=", ".join(map(str, sorted(cpus))), table=table(results), command=command)


def main() -> None:
    """Measure what is not yet measured, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="what to measure")
    parser.add_argument("--one", default=None, choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        RUNS[options.one].run(options)
        return
    for name in options.only if not options.report_only else ():
        kept("speed", {"name": name}, partial(measure, name, options), options.out, fresh=options.fresh)
    found = {record["name"]: record for record in read("speed", options.out)}
    results = {name: found[name] for name in RUNS if name in found}
    write_page(page(results, command_of("benchmarks.speed")), options.markdown)


if __name__ == "__main__":
    main()
