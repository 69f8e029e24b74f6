"""Prediction of many cells.

    python -m benchmarks.scale cluster --data ../shared/data --markdown docs/scale.md

``cluster`` compares one process with workers of a Dask cluster on this machine, each of one thread. Every figure is of a process
of its own, and kept as a line of ``cluster.jsonl``. Times on shared machines are noisy; CPU seconds are those of the client
and of all workers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import brain, many_cells, normalise
from benchmarks.tasks.options import command_of, parser_of
from benchmarks.tasks.processes import measured
from benchmarks.tasks.records import KEYS, Record, kept, read

if TYPE_CHECKING:
    from ipar.model import IPALite

GENES_PER_CELL = 500


def model_of(options: argparse.Namespace) -> IPALite:
    """A model of two real sections in its fast form, fitted once."""
    import ipar

    path = options.cache / "scale-fast"
    if not path.is_dir():
        train = brain(options.data, ["Hippo1", "Hippo2"])
        normalise(train)
        ipar.tl.fit_ipalite(train, "slide", quality="fast", progress=False).save(path)
    return ipar.load(path)  # type: ignore[return-value]


@contextmanager
def cluster_of(n_workers: int) -> Iterator[Callable[[], float]]:
    """A cluster of processes of one thread that have imported ipar; gives a function that tells their CPU seconds."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        client.run(importlib.import_module, "ipar.model")
        yield lambda: sum(client.run(time.process_time).values())


def run_cluster(options: argparse.Namespace) -> None:
    """Place cells on so many workers, or in this process for 0, and print what :func:`measure` reads."""
    import numpy as np

    import ipar

    n_cells, n_slides, n_workers = options.one
    model, cells = model_of(options), many_cells(options.data, n_cells, GENES_PER_CELL)
    np.expm1(cells.X.data, out=cells.X.data)
    normalise(cells)
    cells.obs["slide"] = [f"slide{i * n_slides // n_cells}" for i in range(n_cells)]
    with cluster_of(n_workers) if n_workers else nullcontext(lambda: 0.0) as cpu_of_workers:
        started = time.perf_counter(), time.process_time(), cpu_of_workers()
        ipar.tl.predict_coords(cells, model, library_key="slide", progress=False)
        ended = time.perf_counter(), time.process_time(), cpu_of_workers()
    path = options.cache / f"scale-{n_cells}-{n_slides}.npy"
    if not n_workers:
        np.save(path, cells.obsm["X_ipar"])
    names = ("seconds", "cpu_seconds", "workers_cpu_seconds")
    found: dict[str, Any] = {name: round(b - a, 1) for name, a, b in zip(names, started, ended, strict=True)}
    found["difference"] = float(np.abs(cells.obsm["X_ipar"] - np.load(path)).max())
    print("RESULT " + json.dumps(found | {"cpus": len(os.sched_getaffinity(0))}))


def measure(n_cells: int, n_slides: int, n_workers: int, options: argparse.Namespace) -> Record:
    """Run one measurement in a fresh process of one thread."""
    threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    folders = {"--data": options.data, "--cache": options.cache}
    given = [part for flag, folder in folders.items() for part in (flag, str(Path(folder).resolve()))]
    numbers = map(str, (n_cells, n_slides, n_workers))
    what = f"{n_cells} cells of {n_slides} slides on {n_workers} workers"
    return measured(what, ["benchmarks.scale", "cluster", *given, "--one", *numbers], threads)


def cluster(options: argparse.Namespace) -> None:
    """Measure what is not yet measured, and write the table."""
    if options.one:
        run_cluster(options)
        return
    if not options.report_only:
        for run in product(options.cells, options.slides, options.workers):
            identity = dict(zip(KEYS["cluster"], run, strict=True))
            kept("cluster", identity, partial(measure, *run, options), options.out, fresh=options.fresh)
    from benchmarks.pages.scale import with_records

    page = options.markdown.read_text(encoding="utf-8") if options.markdown else None
    text = with_records(page, "cluster", read("cluster", options.out), command_of("benchmarks.scale"))
    if page is None:
        print(text)
    else:
        options.markdown.write_text(text, encoding="utf-8")


def main() -> None:
    """Run the command that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    own = commands.add_parser("cluster", parents=[parser_of(None)], conflict_handler="resolve")
    own.add_argument("--cells", nargs="+", type=int, default=[200_000])
    own.add_argument("--workers", nargs="+", type=int, default=[0, 1, 2], help="0 is one process without a cluster")
    own.add_argument("--slides", nargs="+", type=int, default=[1, 4], help="slides that the cells are of")
    own.add_argument("--one", nargs=3, type=int, default=None, help=argparse.SUPPRESS)
    own.set_defaults(run=cluster)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
