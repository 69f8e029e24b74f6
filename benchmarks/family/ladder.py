"""The validation ladder: every rung with its figures, and the bounds they must keep.

    python -m benchmarks.family.ladder --data ../shared/data

From the operator alone to the whole method on an unseen slide: a rung that fails says that those above it mean nothing.
Every rung is kept as a line of ``ladder.jsonl``: an interrupted run goes on where it stopped. The last two rungs are
the V1 rows of ``benchmarks.family.run``, and share its records.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from benchmarks.family import rungs
from benchmarks.family.fits import TASKS
from benchmarks.family.ladder_figure import draw
from benchmarks.tasks.embedded import embedded
from benchmarks.tasks.options import parser_of
from benchmarks.tasks.records import Record, kept, read


@dataclass(frozen=True)
class Rung:
    """One rung.

    Attributes
    ----------
    title
        What it shows.
    measure
        Gives its figures, and layouts to draw.
    bounds
        Lowest and highest allowed value of figures.
    reported
        Of the design, for comparison.
    """

    title: str
    measure: Callable[[rungs.Setting], tuple[rungs.Figures, rungs.Layouts]]
    bounds: dict[str, tuple[float, float]]
    reported: str = "–"


INF = float("inf")
STANDING = {"smallest λ₂/λ₁": (0.01, INF), "smallest median distance": (0.01, INF)}
RUNGS = {
    "operator": Rung(
        "exact operator match",
        rungs.operator_match,
        {"largest difference of transition probabilities": (0.0, 1e-5), "KL at the truth": (0.0, 1e-5)},
        "0, 0",
    ),
    "oracle": Rung(
        "oracle near zero",
        rungs.oracle,
        {"energy with regularisers": (-INF, 0.05), "walk": (0.0, 0.03), "stress": (0.0, 0.12), **STANDING},
        "−0.008 ± 0.034; walk 0.019, stress 0.082; 0/50 collapses",
    ),
    "overfit": Rung(
        "one miniset overfitted",
        rungs.overfit,
        {"E_geo, random embeddings": (0.0, 0.2), "E_geo, encoder's embeddings": (0.0, 0.2)},
        "0.12 random, 0.006 informative",
    ),
    "random": Rung("many minisets, random embeddings: no collapse", rungs.random_embeddings, STANDING, "no collapse"),
    "target": Rung(
        "cross-slide with target edges", rungs.target_edges, {"E_geo on target edges": (0.0, 0.31)}, "0.28 to 0.31"
    ),
    "candidates": Rung(
        "cross-slide with candidates and gate",
        rungs.whole_method,
        {"ratio to principal components": (0.0, 1.0)},
        "1.97 against 2.32 of MDS",
    ),
    "seeds": Rung(
        "several seeds",
        rungs.seeds,
        {"ratio to principal components": (0.0, 1.0), "sd over seeds ÷ mean": (0.0, 0.25)},
        "0.31 … 0.51 over five (leaked encoder)",
    ),
}


def climb(rung: Rung, setting: rungs.Setting) -> Record:
    """Measure a rung and check it."""
    start = time.process_time()
    figures, layouts = rung.measure(setting)
    passed = {name: low <= figures[name] <= high for name, (low, high) in rung.bounds.items()}
    seconds = round(time.process_time() - start, 1)
    result = {"figures": figures, "checks": passed, "passed": all(passed.values()), "seconds": seconds}
    return result | {"layouts": layouts}


def main() -> None:
    """Climb, or go on."""
    parser = parser_of(__doc__, seeds=range(5), page=False)
    parser.add_argument("--task", default="brain2", choices=TASKS)
    parser.add_argument("--rungs", nargs="+", default=list(RUNGS), choices=RUNGS)
    parser.add_argument("--figure", type=Path, default=None, help="picture of the layouts to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    slides = embedded(options.task, 0, options.data, options.cache)
    setting = rungs.Setting(slides, options.task, options)
    failed = []
    for name in tqdm(options.rungs, unit="rung"):
        identity = {"task": options.task, "rung": name}
        result = kept("ladder", identity, partial(climb, RUNGS[name], setting), options.out, fresh=options.fresh)
        tqdm.write(f"{'pass' if result['passed'] else 'FAIL'}  {RUNGS[name].title}: {result['figures']}")
        failed += [] if result["passed"] else [name]
    if options.figure:
        draw({one["rung"]: one for one in read("ladder", options.out) if one["task"] == options.task}, options.figure)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
