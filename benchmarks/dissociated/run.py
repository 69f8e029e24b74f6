r"""Dissociated cells in the frame of one section: ipar, controls and published peers; one page and JSON lines.

    python -m benchmarks.dissociated --data ../shared/data --environments ../peer-environments \
        --seeds 0 1 2 --markdown docs/dissociated.md

Every (task, method, seed) is kept as a line of ``dissociated.jsonl``: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from benchmarks.dissociated import controls, impute, ours, peers, report, tasks
from benchmarks.dissociated.scores import Floats, Placed
from benchmarks.tasks.options import command_of, parser_of, write_page
from benchmarks.tasks.records import Record, kept, read

PAGE = "dissociated"


@lru_cache(maxsize=1)  # methods of a task run one after another
def placing(task: str, folder: Path, seed: int) -> tasks.Dissociated:
    """A task's section and cells."""
    return tasks.TASKS[task](folder, seed)


@lru_cache(maxsize=1)
def imputing(task: str, folder: Path, seed: int) -> impute.Imputation:
    """A section without some of its genes, and the cells."""
    return impute.load(task, folder, seed)


def place_one(task: str, method: str, seed: int, options: argparse.Namespace) -> Record:
    """Place the cells of a task by one method, and score them."""
    given = placing(task, options.data, seed)
    if method in peers.MOST_CELLS:
        given = given.some(peers.MOST_CELLS[method], seed)
    start = time.perf_counter()
    found = placed_by(method, given, seed, options)
    taken = {"seconds": time.perf_counter() - start} | found.extra
    if found.likeliest is not None:
        taken["likeliest"] = given.truth.scored(replace(found, coords=found.likeliest), given.rows)
    return {"scores": given.truth.scored(found, given.rows), "n_cells": len(given.rows), **taken}


def placed_by(method: str, given: tasks.Dissociated, seed: int, options: argparse.Namespace) -> Placed:
    """Places by ipar, a control or a peer."""
    if method in peers.PEERS:
        return peers.place_with_peer(method, given, seed, options)
    return (ours.PLACE | controls.CONTROLS)[method](given, seed)


def impute_one(task: str, method: str, seed: int, options: argparse.Namespace) -> Record:
    """Predict the hidden genes of a section by one method, and score them."""
    given = imputing(task, options.data, seed)
    given = impute.some(given, peers.MOST_CELLS.get(method, given.cells.n_obs), seed)
    start = time.perf_counter()
    predicted, extra = imputed_by(method, given, seed, options)
    taken = {"seconds": time.perf_counter() - start} | extra
    return {"scores": given.scored(predicted), "n_cells": given.cells.n_obs, "n_genes": len(given.genes), **taken}


def imputed_by(
    method: str, given: impute.Imputation, seed: int, options: argparse.Namespace
) -> tuple[Floats, dict[str, Any]]:
    """Hidden genes by ipar, a control or a peer that maps."""
    if method in peers.MAPPING:
        return peers.impute_with_peer(method, given.section, given.seen, given.values, seed, options)
    if method in ours.IMPUTE:
        return ours.IMPUTE[method](given.section, given.cells, given.genes, seed), {}
    return impute.CONTROLS[method](given, seed), {}


PLACING = (*ours.PLACE, *controls.CONTROLS, *peers.PEERS)
IMPUTING = (*ours.IMPUTE, *impute.CONTROLS, *peers.MAPPING)
METHODS = tuple(dict.fromkeys((*PLACING, *IMPUTING)))


def jobs(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """All runs that were asked for, every seed as a whole before the next."""
    able = dict.fromkeys(tasks.TASKS, PLACING) | dict.fromkeys(impute.TASKS, IMPUTING)
    return [
        (task, method, seed)
        for seed in options.seeds
        for task in options.tasks
        for method in options.methods
        if method in able[task]
    ]


def main() -> None:
    """Run, or continue, and write the page."""
    names = (*tasks.TASKS, *impute.TASKS)
    parser = parser_of(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(names), choices=names)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--threads", type=int, default=1, help="of one run of a peer")
    parser.add_argument("--environments", type=Path, default=Path("../peer-environments"), help="folder of the peers'")
    options = parser.parse_args()
    options.environments = options.environments.resolve()
    todo = [] if options.report_only else jobs(options)
    with tqdm(todo, unit="run") as bar:
        for task, method, seed in bar:
            bar.set_postfix_str(f"{task} {method} {seed}")
            one = place_one if task in tasks.TASKS else impute_one
            identity = {"task": task, "method": method, "seed": seed}
            kept(PAGE, identity, partial(one, task, method, seed, options), options.out, fresh=options.fresh)
    write_page(report.page(read(PAGE, options.out), command_of("benchmarks.dissociated")), options.markdown)


if __name__ == "__main__":
    main()
