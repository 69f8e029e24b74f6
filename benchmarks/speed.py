"""Time and peak memory of what users run, each in a process of its own, beside an earlier version.

    python -m benchmarks.speed --data ../shared/data --before e6933ed --markdown docs/speed.md

With ``--before``, the package of an earlier commit is measured by the same scripts (``git worktree``), so that both columns are
of one machine on one day. What was measured is kept as a line of ``speed.jsonl``, and not measured again without ``--fresh``.
CPU seconds are those of all threads; times on shared machines are noisy.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tasks.options import command_of, parser_of, write_page
from benchmarks.tasks.processes import ROOT, measured
from benchmarks.tasks.records import Record, kept, read

if TYPE_CHECKING:
    import anndata as ad


@dataclass
class Meter:
    """Wall and CPU seconds of what runs within ``with meter:``, and the process's peak memory."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gib_before: float = 0.0

    def __enter__(self) -> Meter:
        self.gib_before = _peak_gib()
        self._start = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        start, used = self._start
        self.seconds, self.cpu_seconds = time.perf_counter() - start, _cpu_seconds() - used

    def report(self, **extra: object) -> None:
        """Print what :func:`measure` reads."""
        found = {"seconds": round(self.seconds, 3), "cpu_seconds": round(self.cpu_seconds, 2)}
        memory = {"gib_before": round(self.gib_before, 2), "peak_gib": round(_peak_gib(), 2)}
        print("RESULT " + json.dumps({**found, **memory, "cpus": len(os.sched_getaffinity(0)), **extra}))


def _peak_gib() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20


def _cpu_seconds() -> float:
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def run_import(_: argparse.Namespace) -> None:
    """Import the package and make sure that it stays light."""
    with Meter() as meter:
        import ipar  # noqa: F401

    meter.report(loaded=[name for name in ("torch", "matplotlib.pyplot") if name in sys.modules])


def run_demo(_: argparse.Namespace) -> None:
    """The demonstration, from start to end."""
    with tempfile.TemporaryDirectory() as folder, Meter() as meter:
        subprocess.run([sys.executable, "-m", "ipar", "demo", "--quiet", "-o", folder], check=True)
    meter.report()


def brain(data: Path, slides: list[str]) -> ad.AnnData:
    """Counts of some sections."""
    import anndata as ad

    found = ad.read_h5ad(data / "mouse_brain_st.h5ad")
    return found[found.obs["slide"].isin(slides)].copy()


def normalise(adata: ad.AnnData) -> None:
    """Logarithms of counts per 10,000."""
    import scanpy as sc

    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)


def run_fit(options: argparse.Namespace, quality: str = "default") -> None:
    """Training on two real sections; the model of the default is kept for the predictions."""
    import ipar

    train = brain(options.data, ["Hippo1", "Hippo2"])
    normalise(train)
    how = {} if quality == "default" else {"quality": quality}  # earlier versions had none
    with Meter() as meter:
        model = ipar.tl.fit_ipalite(train, "slide", progress=False, **how)
    if quality == "default":
        model.save(options.cache / options.model)
    meter.report(stages=train.uns["ipar"]["fit"].get("seconds", {}))


def many_cells(data: Path, n_cells: int, n_genes: int | None = None) -> ad.AnnData:
    """A real section's spots, drawn with replacement and thinned, to about so many genes per cell if given."""
    import anndata as ad
    import numpy as np
    from scipy import sparse

    section = brain(data, ["Hippo3"])
    counts, rng, parts = sparse.csr_matrix(section.X), np.random.default_rng(0), []
    share = 0.7 if n_genes is None else min(n_genes / np.diff(counts.indptr).mean(), 1.0)
    for start in range(0, n_cells, 50_000):
        part = counts[rng.integers(counts.shape[0], size=min(50_000, n_cells - start))]
        part.data = np.log1p(rng.binomial(part.data.astype(np.int64), share)).astype(np.float32)
        part.eliminate_zeros()
        parts.append(part)
    cells = ad.AnnData(sparse.vstack(parts, format="csr"), var=section.var)
    cells.obs_names_make_unique()
    return cells


def run_predict(options: argparse.Namespace, n_cells: int = 100_000, n_genes: int | None = None) -> None:
    """Placing cells by the model that :func:`run_fit` leaves."""
    if not (options.cache / options.model).is_dir():
        msg = f"No model in {options.cache}: measure `fit` first, with --only fit --fresh."
        raise FileNotFoundError(msg)
    import ipar

    cells = many_cells(options.data, n_cells, n_genes)
    model = ipar.load(options.cache / options.model)
    with Meter() as meter:
        ipar.tl.predict_coords(cells, model, progress=False)
    meter.report(genes_per_cell=round(cells.X.nnz / n_cells))


def run_fit_many(_: argparse.Namespace) -> None:
    """Training on five simulated slides of 20,000 cells and 4,000 genes."""
    import ipar

    train = ipar.datasets.layered_tissue(n_slides=5, n_cells=20_000, n_genes=4_000)
    del train.layers["counts"]
    with Meter() as meter:
        ipar.tl.fit_ipalite(train, "slide", progress=False)
    meter.report(stages=train.uns["ipar"]["fit"].get("seconds", {}))


def run_sample(_: argparse.Namespace) -> None:
    """Sampling from a flow, of cells at random: its time depends neither on weights nor on what is embedded."""
    import numpy as np

    from ipar.model.flow import Flow
    from ipar.nn import EdgeGate, IGAConfig, IGANet

    flow = Flow(IGANet(IGAConfig(d_input=128)), EdgeGate(128))
    h = np.random.default_rng(0).normal(size=(5_000, 128)).astype(np.float32)
    with Meter() as meter:
        flow.sample(h, 20, n_steps=50)
    meter.report()


@dataclass(frozen=True)
class Measurement:
    """What is measured, how the page calls it, its limits in seconds and GiB, and whether earlier versions have it."""

    title: str
    run: Callable[[argparse.Namespace], None]
    seconds: float | None = None
    gib: float | None = None
    before: bool = True


RUNS = {
    "import": Measurement("`import ipar`, without PyTorch", run_import, 0.5),
    "demo": Measurement("`ipar demo`: simulate, train on two slides, place a third, score, draw", run_demo, 90),
    "fit": Measurement("`fit_ipalite`: two brain sections, 2,300 spots", run_fit, 600, 3),
    "fit_fast": Measurement('… `quality="fast"`', partial(run_fit, quality="fast"), 120, 3, before=False),
    "fit_best": Measurement('… `quality="best"`', partial(run_fit, quality="best"), 1200, 3, before=False),
    "predict_1000": Measurement("`predict_coords`: 1,000 cells", partial(run_predict, n_cells=1_000), 10, 2),
    "predict_20000": Measurement("… 20,000 cells", partial(run_predict, n_cells=20_000), 60, 2),
    "predict": Measurement("… 100,000 cells", run_predict, 120, 4),
    "predict_million": Measurement(
        "… 1,000,000 cells, 500 genes found in each",
        partial(run_predict, n_cells=1_000_000, n_genes=500),
        900,
        16,
        before=False,
    ),
    "fit_many": Measurement(
        "`fit_ipalite`: five simulated slides of 20,000 cells and 4,000 genes each", run_fit_many, 1200, 6, before=False
    ),
    "sample": Measurement("`sample_coords` of IGA: 5,000 cells, 20 samples of 50 steps", run_sample, 600, 4),
}


def measure(name: str, options: argparse.Namespace, source: Path | None = None, version: str = "now") -> Record:
    """Run one measurement in a fresh process, by the package in ``source`` (default: the installed one)."""
    folders = {"--data": options.data, "--cache": options.cache}
    given = [part for flag, folder in folders.items() for part in (flag, str(Path(folder).resolve()))]
    paths = {} if source is None else {"PYTHONPATH": str(source / "src")}
    return measured(name, ["benchmarks.speed", *given, "--one", name, "--model", f"speed-{version}"], paths)


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """The files of a commit in a folder, for the time being."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", place, commit], check=True, cwd=ROOT)
        try:
            yield place
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", place], check=True, cwd=ROOT)


def measure_all(options: argparse.Namespace) -> None:
    """Every measurement that is not kept yet: before, where there is such a version, then now."""
    with checked_out(options.before or "HEAD") as place:
        for name in options.only:
            if options.before and RUNS[name].before:
                make = partial(measure, name, options, place, options.before)
                kept("speed", {"name": name, "version": options.before}, make, options.out, fresh=options.fresh)
            kept(
                "speed",
                {"name": name, "version": "now"},
                partial(measure, name, options),
                options.out,
                fresh=options.fresh,
            )


def main() -> None:
    """Measure what is not yet measured, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="what to measure")
    parser.add_argument("--before", default=None, help="a commit to measure beside")
    parser.add_argument("--one", default=None, choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--model", default="speed-now", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        RUNS[options.one].run(options)
        return
    if not options.report_only:
        measure_all(options)
    from benchmarks.pages.speed import page  # loads ipar, whose import is measured above

    titles = {name: (one.title, one.seconds, one.gib) for name, one in RUNS.items()}
    records = {kind: read(kind, options.out) for kind in ("speed", "benchmarks", "peer_speed")}
    write_page(page(titles, records, command_of("benchmarks.speed")), options.markdown)


if __name__ == "__main__":
    main()
