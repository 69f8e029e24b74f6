"""What every step of ipar brings, on training slides that were left out: a markdown page and JSON lines.

    python benchmarks/levers.py --data ../shared/data --markdown benchmarks/levers.md

No slide that ``run.py`` scores has a part in it, neither as the slide left out nor as one trained on: by these folds the
defaults were chosen. Every (fold, seed, group of levers) is kept as a line of ``ablations.jsonl``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

import lever_axes
import lever_doubts
import lever_panels
import lever_shares
import lever_spots
import lever_weights
import own_neighbors
import tasks
from ipar.metrics import evaluate
from lever_adaptation import layouts_of_adaptation
from lever_flow import layouts_of_flow
from lever_layouts import Layouts, layouts_of_encoders, layouts_of_sketches, layouts_of_steps
from lever_networks import layouts_of_networks
from lever_texts import (
    ADAPTATION,
    DOUBTS,
    FLOW,
    INTRO,
    OUTRO,
    PANELS,
    SHARES,
    SKETCH,
    SPOTS,
    STEPS_TITLE,
    TRAINING,
    WEIGHTS,
)
from lever_training import layouts_of_minisets, layouts_of_transfer
from records import KEYS, RESULTS, kept

FOLDS = {
    task.name: task
    for task in (
        tasks.Task("brain5", "mouse_brain_st.h5ad", "Hippo8", ("Hippo1", "Hippo2", "Hippo4", "Hippo5", "Hippo7"), ""),
        tasks.Task("brain5b", "mouse_brain_st.h5ad", "Hippo1", ("Hippo2", "Hippo4", "Hippo5", "Hippo7", "Hippo8"), ""),
        tasks.Task("brain5c", "mouse_brain_st.h5ad", "Hippo5", ("Hippo1", "Hippo2", "Hippo4", "Hippo7", "Hippo8"), ""),
        tasks.Task("brain5d", "mouse_brain_st.h5ad", "Hippo4", ("Hippo1", "Hippo2", "Hippo5", "Hippo7", "Hippo8"), ""),
        tasks.Task("brain5e", "mouse_brain_st.h5ad", "Hippo2", ("Hippo1", "Hippo4", "Hippo5", "Hippo7", "Hippo8"), ""),
        tasks.Task("brain5f", "mouse_brain_st.h5ad", "Hippo7", ("Hippo1", "Hippo2", "Hippo4", "Hippo5", "Hippo8"), ""),
        tasks.Task("brain2", "mouse_brain_st.h5ad", "Hippo5", ("Hippo1", "Hippo2"), ""),
        tasks.Task("brain2b", "mouse_brain_st.h5ad", "Hippo8", ("Hippo4", "Hippo7"), ""),
        tasks.Task("brain2c", "mouse_brain_st.h5ad", "Hippo4", ("Hippo5", "Hippo8"), ""),
        tasks.Task("brain2d", "mouse_brain_st.h5ad", "Hippo7", ("Hippo1", "Hippo8"), ""),
    )
}
PANEL_FOLDS = ("brain5", "brain5b")
FLOW_FOLDS = ("brain5", "brain5b", "brain5c", "brain5d", "brain2b", "brain2c", "brain2d")
SCORES = {
    "luna_spearman": "LUNA Spearman",
    "knn_hit_20_ratio": "kNN hit@20 ÷ chance",
    "contact_f1_1": "contact F1@1 %",
    "procrustes_rmse": "Procrustes RMSE",
    "e_geo": "E_geo",
}

GROUPS: dict[str, Callable[[tasks.Slides, int, Path], Layouts]] = {
    "encoder": lambda slides, seed, _: layouts_of_encoders(slides, seed),
    "sketch": lambda slides, seed, _: layouts_of_sketches(slides, seed),
    "transfer": layouts_of_transfer,
    "adaptation": layouts_of_adaptation,
    "steps": lambda slides, seed, _: layouts_of_steps(slides, seed),
    "minisets": lambda slides, seed, _: layouts_of_minisets(slides, seed),
    "networks": lambda slides, seed, _: layouts_of_networks(slides, seed),
    "flow": lambda slides, seed, _: layouts_of_flow(slides, seed),
}
STEP_GROUPS, TRAINED = ("encoder", "adaptation", "steps"), ("transfer", "minisets", "networks")


def measure(fold: str, group: str, seed: int, data: Path) -> dict[str, Any]:
    """Scores of every layout of a group."""
    slides = tasks.load(FOLDS[fold], data)
    scores = {}
    for name, coords in GROUPS[group](slides, seed, data):
        found = evaluate(slides.truth, coords, random_state=0)
        scores[name] = {key: float(found[key]) for key in SCORES}
    return scores


def layouts_of(
    run: tuple[str, str, int], make: Callable[[], dict[str, Any]], out: Path, *, what: str = "layouts"
) -> dict[str, Any]:
    """What was measured of a fold, a group and a seed, by layout; measured, if it is not there."""
    identity = dict(zip(KEYS["ablations"], run, strict=True))
    return dict(kept("ablations", identity, lambda: {what: make()}, out)[what])


def dealt(
    module: Any, folds: Sequence[str], out: Path, data: Path, seeds: Sequence[int] = lever_spots.SEEDS
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Scores of the layouts of a module, of folds of sections and of halves of a slide of single cells."""
    group = module.__name__.removeprefix("lever_")
    runs = [(lever_spots.SLIDE, seed) for seed in seeds] + [(FOLDS[name], 0) for name in folds]
    return {
        (fold.name, group, seed): layouts_of(
            (fold.name, group, seed),
            lambda fold=fold, seed=seed: module.measure(fold, seed, data, tuple(SCORES)),
            out,
        )
        for fold, seed in tqdm(runs, desc=group, unit="run")
    }


def spots(out: Path, data: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Scores of single cells that spots teach, by how the cells were dealt."""
    name = lever_spots.SLIDE.name
    return {
        (name, "spots", seed): layouts_of(
            (name, "spots", seed), lambda seed=seed: lever_spots.measure(seed, data, tuple(SCORES)), out
        )
        for seed in tqdm(lever_spots.SEEDS, desc="spots", unit="run")
    }


def doubts(out: Path, data: Path) -> dict[str, dict[str, Any]]:
    """How signs of trouble rank errors, by fold."""
    folds = [lever_spots.SLIDE, *(FOLDS[name] for name in lever_doubts.FOLDS)]
    return {
        fold.name: layouts_of((fold.name, "doubts", 0), lambda fold=fold: lever_doubts.measure(fold, 0, data), out)
        for fold in tqdm(folds, desc="doubts", unit="run")
    }


def page(
    results: dict[tuple[str, str, int], dict[str, Any]],
    neighbors: dict[str, Any],
    signs: dict[str, Any],
    options: argparse.Namespace,
) -> str:
    """The markdown page: a row a lever, means over what has been measured of it; then neighbours and signs of trouble."""
    command = shlex.join(["python", *sys.argv])
    folds, once = (", ".join(map(_spelled, names)) for names in (options.folds, options.training_folds))
    lines = [INTRO.format(command=command)]
    if any(group == "weights" for _, group, _ in results):
        named = {"slide": lever_spots.SLIDE.test, "seeds": ", ".join(map(str, lever_spots.SEEDS))}
        lines += [
            WEIGHTS.format(folds=", ".join(map(_spelled, FLOW_FOLDS)), **named),
            *table(results, ("weights", "axes")),
        ]
    lines += [STEPS_TITLE.format(seeds=", ".join(map(str, options.seeds)), folds=folds), *table(results, STEP_GROUPS)]
    lines += [ADAPTATION, TRAINING.format(folds=once), *table(results, TRAINED)]
    lines += [SKETCH.format(folds=", ".join(map(_spelled, FOLDS))), *table(results, ("sketch",))]
    lines += [FLOW.format(folds=", ".join(map(_spelled, FLOW_FOLDS))), *table(results, ("flow",))]
    if any(group == "shares" for _, group, _ in results):
        named = {"slide": lever_spots.SLIDE.test, "folds": ", ".join(map(_spelled, lever_shares.FOLDS))}
        lines += [SHARES.format(**named), *table(results, ("shares",))]
    if any(group == "spots" for _, group, _ in results):
        lines += [SPOTS.format(slide=lever_spots.SLIDE.test, seeds=", ".join(map(str, lever_spots.SEEDS)))]
        lines += table(results, ("spots",))
    if any(group == "panels" for _, group, _ in results):
        placed = ", ".join(FOLDS[name].test for name in PANEL_FOLDS)
        seeds = ", ".join(map(str, lever_spots.SEEDS))
        lines += [PANELS.format(slide=lever_spots.SLIDE.test, seeds=seeds, sections=placed)]
        lines += table(results, ("panels",))
    lines += own_neighbors.section(neighbors)
    if signs:
        folds = ", ".join(map(_spelled, lever_doubts.FOLDS))
        lines += [DOUBTS.format(slide=lever_spots.SLIDE.test, folds=folds), *lever_doubts.section(signs)]
    return "\n".join(lines) + "\n" + OUTRO


def table(results: dict[tuple[str, str, int], dict[str, Any]], groups: Sequence[str]) -> list[str]:
    """Rows of some groups."""
    lines = [f"| layout | {' | '.join(SCORES.values())} | runs |", "|---" * (len(SCORES) + 2) + "|"]
    names = list(dict.fromkeys(name for group in groups for key, r in results.items() if key[1] == group for name in r))
    for name in names:
        runs = [r[name] for r in results.values() if name in r]
        values = [f"{np.mean([run[key] for run in runs]):.3f}" for key in SCORES]
        lines.append(f"| {name} | {' | '.join(values)} | {len(runs)} |")
    return lines


def _folds_of(group: str, options: argparse.Namespace) -> Sequence[str]:
    """Sections that a group of levers is measured on."""
    if group in STEP_GROUPS:
        return list(options.folds)
    return list(options.training_folds) if group in TRAINED else {"sketch": tuple(FOLDS), "flow": FLOW_FOLDS}[group]


def _spelled(fold: str) -> str:
    return f"{fold} ({' + '.join(FOLDS[fold].train or ())} → {FOLDS[fold].test})"


def main() -> None:
    """Run, or go on, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folds", nargs="+", default=["brain5", "brain2b"], choices=list(FOLDS))
    parser.add_argument(
        "--training-folds",
        nargs="+",
        default=["brain2b"],
        choices=list(FOLDS),
        help="of what trains anew for every row",
    )
    parser.add_argument(
        "--groups", nargs="+", default=list(GROUPS), choices=list(GROUPS), help="of rows; others are not on the page"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON lines")
    parser.add_argument("--markdown", type=Path, default=None, help="page to write; printed, if not given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for group in options.groups:
        for fold, seed in tqdm(
            [(f, s) for s in options.seeds for f in _folds_of(group, options)], desc=group, unit="run"
        ):
            run = fold, group, seed
            results[run] = layouts_of(run, partial(measure, *run, options.data), options.out)
    where = options.out, options.data
    results |= spots(*where)
    for module, folds in ((lever_panels, PANEL_FOLDS), (lever_weights, FLOW_FOLDS), (lever_axes, FLOW_FOLDS)):
        results |= dealt(module, folds, *where)
    results |= dealt(lever_shares, lever_shares.FOLDS, *where, seeds=(0,))
    neighbors = {
        slide: layouts_of(
            (slide, "neighbors", 0), partial(own_neighbors.measure, slide, options.data), options.out, what="shares"
        )
        for slide in own_neighbors.SLIDES
    }
    text = page(results, neighbors, doubts(*where), options)
    if options.markdown:
        options.markdown.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
