r"""ipar beside every control on the real tasks: two markdown pages and JSON lines.

    python -m benchmarks.run --data ../shared/data --seeds 0 1 2 --jobs 2 --markdown docs/benchmarks.md \
        --tables benchmarks/tables.md

Every (task, method, seed) runs in a process of its own, which measures its time and peak memory, and is kept as a line
of ``benchmarks.jsonl``: an interrupted run goes on where it stopped. The pages show published peers too, where
``benchmarks.peers.run`` has measured them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

import ipar
from benchmarks.methods import controls
from benchmarks.methods.labels import LABELS, PEERS
from benchmarks.methods.ours import PLACE
from benchmarks.pages import figure, questions, tables
from benchmarks.pages.comparisons import Results
from benchmarks.tasks import tasks
from benchmarks.tasks.options import command_of, parser_of, write_page
from benchmarks.tasks.records import Record, kept, read
from benchmarks.tasks.scores import ranked

ROOT = Path(__file__).resolve().parents[1]
METHODS = list(LABELS)


def run_one(task_name: str, method: str, seed: int, data: Path) -> Record:
    """Run one method on one task in this process."""
    slides = tasks.load(tasks.TASKS[task_name], data)
    uncertainty, extra = None, dict[str, Any]()
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
    if uncertainty is not None:
        scores |= ranked(ipar.metrics.cell_errors(slides.truth, coords), uncertainty)
    return {"scores": scores, "seconds": seconds, "peak_gib": peak, **extra}


def cached(task: str, method: str, seed: int, options: argparse.Namespace) -> Record:
    """The result of one run, from what was kept where it is there."""
    identity = {"task": task, "method": method, "seed": seed}
    make = partial(in_process, task, method, seed, options)
    return kept("benchmarks", identity, make, options.out, fresh=options.fresh)


def in_process(task: str, method: str, seed: int, options: argparse.Namespace) -> Record:
    """The result of one run in a process of its own."""
    data = str(options.data.resolve())
    command = [sys.executable, "-m", "benchmarks.run", "--data", data, "--one", task, method, str(seed)]
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | threads, cwd=ROOT)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        msg = f"{method} on {task}, seed {seed}, failed:\n{done.stderr[-3000:]}"
        raise RuntimeError(msg)
    result: Record = json.loads(lines[-1].removeprefix("RESULT "))
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


def stored(options: argparse.Namespace) -> Results:
    """What has been measured so far, ``[task][method] → one per seed``: methods may lack seeds; peers stand last."""
    by_run = {(run["task"], run["method"], run["seed"]): run for run in read("benchmarks", options.out)}
    found: Results = {}
    for task in options.tasks:
        for method in [*options.methods, *PEERS]:
            runs = [run for seed in options.seeds if (run := by_run.get((task, method, seed)))]
            if runs:
                found.setdefault(task, {})[method] = runs
    return found


def main() -> None:
    """Run, or continue, and write the pages."""
    parser = parser_of(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(tasks.TASKS))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--threads", type=int, default=1, help="of one run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--tables", type=Path, default=None, help="page of all tables to write")
    parser.add_argument("--one", nargs=3, default=None, metavar=("TASK", "METHOD", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        task, method, seed = options.one
        print("RESULT " + json.dumps(run_one(task, method, int(seed), options.data)))
        return
    if not options.report_only:
        run_all(options)
    found, command = stored(options), command_of("benchmarks.run")
    if options.tables:
        write_page(tables.page(found, options, command), options.tables)
    if options.markdown:
        figure.draw(found, options.markdown.parent / "images" / figure.FIGURE)
    write_page(questions.page(found, command), options.markdown)


if __name__ == "__main__":
    main()
