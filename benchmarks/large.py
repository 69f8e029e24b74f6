"""Time and peak memory of data that stay on the disk, each measurement in a process of its own.

    python -m benchmarks.large --cache large

Cells are simulated once, and written to the folder of ``--cache`` (some 10 GB): those of a few sections, drawn with replacement,
each time with other counts of those that were found. What was measured is kept as a line of ``large.jsonl``, and not measured
again without ``--fresh``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import Meter
from benchmarks.tasks.options import command_of, parser_of, write_page
from benchmarks.tasks.processes import measured
from benchmarks.tasks.records import Record, kept, read

if TYPE_CHECKING:
    import anndata as ad

QUERY_GENES, TRAINING_GENES = 20_000, 2_000


def redrawn(section: ad.AnnData, n_cells: int, genes_per_cell: float, seed: int) -> ad.AnnData:
    """Cells of a section, drawn with replacement, of each about so many genes, near where it was."""
    import anndata as ad
    import numpy as np
    from scipy import sparse

    rng = np.random.default_rng(seed)
    counts = sparse.csr_matrix(section.layers["counts"])
    share = min(1.6 * genes_per_cell / np.diff(counts.indptr).mean(), 1.0)  # most counts are of few molecules
    rows = rng.integers(counts.shape[0], size=n_cells)
    drawn = counts[rows]
    drawn.data = rng.binomial(drawn.data.astype(np.int64), share).astype(np.float32)
    drawn.eliminate_zeros()
    totals = np.maximum(np.asarray(drawn.sum(axis=1)).ravel(), 1)
    drawn.data = np.log1p(drawn.data * np.repeat(1e4 / totals, np.diff(drawn.indptr))).astype(np.float32)
    coords = section.obsm["spatial"][rows] + rng.normal(scale=10.0, size=(n_cells, 2))
    return ad.AnnData(drawn, obs=section.obs.iloc[rows][["slide"]], var=section.var[[]], obsm={"spatial": coords})


def write_parts(path: Path, parts: Iterator[ad.AnnData]) -> None:
    """Write an AnnData as a zarr store, part by part."""
    import anndata as ad
    import numpy as np
    import pandas as pd
    import zarr

    group, obs, coords = zarr.open_group(str(path), mode="w"), [], []
    for i, part in enumerate(parts):
        if i == 0:
            ad.io.write_elem(group, "/", ad.AnnData(var=part.var))
            ad.io.write_elem(group, "X", part.X, dataset_kwargs={"chunks": (1 << 20,)})
        else:
            ad.io.sparse_dataset(group["X"]).append(part.X)
        obs.append(part.obs)
        coords.append(part.obsm["spatial"])
    table = pd.concat(obs, ignore_index=True)
    table["slide"] = table["slide"].astype(str).astype("category")
    table.index = "cell" + table.index.astype(str)
    ad.io.write_elem(group, "obs", table)
    ad.io.write_elem(group["obsm"], "spatial", np.concatenate(coords))


def query_store(cache: Path, n_cells: int) -> Path:
    """A section of so many cells and 20,000 genes, and a model fitted on three others."""
    import ipar

    path, model = cache / f"query_{n_cells}.zarr", cache / "model"
    if not path.exists() or not model.exists():
        sections = ipar.datasets.layered_tissue(4, 3_000, QUERY_GENES)
        sections.obs["slide"] = sections.obs["slide"].astype(str)
        train = sections[sections.obs["slide"] != "slide4"].copy()
        ipar.tl.fit_ipalite(train, "slide", quality="fast", progress=False).save(model)
        source = sections[sections.obs["slide"] == "slide4"].copy()
        starts = range(0, n_cells, 50_000)
        write_parts(path, (redrawn(source, min(50_000, n_cells - start), 500, start) for start in starts))
    return path


def training_store(cache: Path, n_slides: int = 20, n_cells: int = 100_000) -> Path:
    """So many sections of 2,000 genes, their cells in random order."""
    import ipar

    path = cache / "training.zarr"
    if not path.exists():
        sections = ipar.datasets.layered_tissue(n_slides + 1, 10_000, TRAINING_GENES)
        names = [f"slide{i + 1:02d}" for i in range(n_slides)]
        of = {str(name): sections[sections.obs["slide"] == name] for name in sections.obs["slide"].cat.categories}
        of = dict(zip([*names, "query"], of.values(), strict=True))
        of.pop("query").copy().write_h5ad(cache / "query.h5ad")
        for name, own in of.items():
            of[name] = own.copy()
            of[name].obs["slide"] = name
        write_parts(path, (redrawn(of[name], n_cells, 300, i) for i, name in enumerate(names)))
    return path


def run_predict(options: argparse.Namespace, n_cells: int, form: str) -> None:
    """Placing the cells of one section, its expression on the disk or in memory, without the candidate graph."""
    import anndata as ad

    import ipar

    path = query_store(options.cache, n_cells)
    model = ipar.load(options.cache / "model")
    cells = ad.experimental.read_lazy(path) if form == "disk" else ad.read_zarr(path)
    with Meter() as meter:
        ipar.tl.predict_coords(cells, model, graph=False, progress=False)
    meter.report(n_cells=n_cells, n_genes=cells.n_vars)


def run_write(options: argparse.Namespace) -> None:
    """Writing the training store."""
    import anndata as ad

    import ipar

    cells = ad.experimental.read_lazy(training_store(options.cache))
    with Meter() as meter:
        ipar.pp.write_training_store(cells, options.cache / "store.zarr", "slide", progress=False)
    meter.report(n_cells=cells.n_obs, n_genes=cells.n_vars)


def run_fit(options: argparse.Namespace, n_cells: int) -> None:
    """Reading a part of the training store, training on it, and placing an unseen section."""
    import anndata as ad

    import ipar

    query = ad.read_h5ad(options.cache / "query.h5ad")
    with Meter() as meter:
        train = ipar.pp.read_training_store(options.cache / "store.zarr", n_cells)
        model = ipar.tl.fit_ipalite(train, "slide", quality="fast", progress=False)
    ipar.tl.predict_coords(query, model, progress=False)
    found = ipar.metrics.evaluate(query.obsm["spatial"], query.obsm["X_ipar"])
    stages = train.uns["ipar"]["fit"]["seconds"]
    scores = {name: round(float(found[name]), 4) for name in ("luna_spearman", "knn_hit", "e_geo") if name in found}
    meter.report(n_cells=train.n_obs, n_genes=train.n_vars, stages=stages, **scores)


@dataclass(frozen=True)
class Measurement:
    """What is measured, and how the page calls it."""

    title: str
    run: Callable[[argparse.Namespace], None]


RUNS = {
    f"predict_{name}_{form}": Measurement(
        f"`predict_coords`: {n_cells:,} cells of one section, {QUERY_GENES:,} genes, {where}",
        partial(run_predict, n_cells=n_cells, form=form),
    )
    for name, n_cells in (("100k", 100_000), ("300k", 300_000), ("million", 1_000_000))
    for form, where in (("disk", "on the disk"), ("memory", "in memory"))
    if not (name == "million" and form == "memory")
}
RUNS |= {
    "write": Measurement("`write_training_store`: 20 sections of 100,000 cells, 2,000 genes", run_write),
    "fit_20k": Measurement("`fit_ipalite` on 20,000 cells of the store, fast", partial(run_fit, n_cells=20_000)),
    "fit_100k": Measurement("… on 100,000 cells", partial(run_fit, n_cells=100_000)),
}


def measure(name: str, options: argparse.Namespace) -> Record:
    """Run one measurement in a fresh process."""
    return measured(name, ["benchmarks.large", "--cache", str(options.cache.resolve()), "--one", name])


def table(records: dict[str, Record], command: str) -> str:
    """What was measured, as a table."""
    lines = [f"Made with `{command}`:", "", "| what | seconds | CPU s | peak GiB |", "|---|---|---|---|"]
    for name, one in RUNS.items():
        if name in records:
            own: dict[str, Any] = records[name]
            lines.append(f"| {one.title} | {own['seconds']:.0f} | {own['cpu_seconds']:.0f} | {own['peak_gib']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is not yet measured, and write the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), help="what to measure")
    parser.add_argument("--one", default=None, choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.one:
        RUNS[options.one].run(options)
        return
    if not options.report_only:
        for name in options.only:
            kept("large", {"name": name}, partial(measure, name, options), options.out, fresh=options.fresh)
    records = {record["name"]: record for record in read("large", options.out)}
    write_page(table(records, command_of("benchmarks.large")), options.markdown)


if __name__ == "__main__":
    main()
