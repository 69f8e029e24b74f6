"""The page of the ablations, from records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.ablations import doubts, neighbors, texts, trials
from benchmarks.ablations.components import N_GENES
from benchmarks.ablations.fits import SCORES
from benchmarks.ablations.folds import EMBRYO, SECTIONS, spelled
from benchmarks.ablations.groups import (
    DOUBT_FOLDS,
    FLOW_FOLDS,
    GROUPS,
    NETWORK_FOLDS,
    PANEL_FOLDS,
    SEEDS,
    SHARE_FOLDS,
    STEP_FOLDS,
    TRAINING_FOLDS,
)
from benchmarks.tasks.records import Record, read
from ipar.model.slide_pcs import SlidePCs

Results = dict[str, list[Record]]
"""Records of each group, in the order of its runs."""

PARTS: tuple[tuple[str, tuple[str, ...], Sequence[str]], ...] = (
    (texts.WEIGHTS, FLOW_FOLDS, ("weights", "axes")),
    (texts.STEPS, STEP_FOLDS, ("encoder", "adaptation", "steps")),
    (texts.ADAPTATION + "\n" + texts.TRAINING, TRAINING_FOLDS, ("transfer", "minisets")),
    (texts.SKETCH, tuple(SECTIONS), ("sketch",)),
    (texts.FLOW, FLOW_FOLDS, ("flow",)),
    (texts.STARTS, NETWORK_FOLDS, ("flow starts",)),
    (texts.SHARES, SHARE_FOLDS, ("shares",)),
    (texts.SPOTS, (), ("spots",)),
    (texts.PANELS, PANEL_FOLDS, ("panels",)),
)
"""Text, folds that it names, and groups whose rows follow."""

_OF_TRIALS = {
    "network alone": ("luna_spearman", "knn_hit_20_ratio", "e_geo"),
    "finished": ("luna_spearman", "knn_hit_20_ratio", "procrustes_rmse", "e_geo"),
}
_LOWER = ("procrustes_rmse", "e_geo")  # are better


def stored(folder: Path) -> Results:
    """What has been measured, group by group."""
    found = {(one["group"], one["fold"], one["seed"]): one for one in read("ablations", folder)}
    return {name: [found[name, *run] for run in group.runs if (name, *run) in found] for name, group in GROUPS.items()}


def page(results: Results, command: str) -> str:
    """The markdown page: a row per layout, means over what has been measured of it."""
    lines = [texts.INTRO.format(command=command)]
    named = {"slide": EMBRYO.test, "seeds": ", ".join(map(str, SEEDS)), "n_genes": N_GENES}
    for text, folds, groups in PARTS:
        if any(results.get(group) for group in groups):
            placed = ", ".join(SECTIONS[fold].test for fold in folds)
            lines += [text.format(folds=_spelled(folds), sections=placed, **named), *table(results, groups)]
    if changed := [one["layouts"] for one in results.get("networks", [])]:
        lines += [
            texts.NETWORKS.format(folds=_spelled(NETWORK_FOLDS), **by_seed(changed), **named),
            *table_of_trials(changed),
        ]
    if shares := {one["fold"]: one["shares"] for one in results.get("neighbors", [])}:
        lines += table_of_neighbors(shares)
    if signs := {one["fold"]: one["layouts"] for one in results.get("doubts", [])}:
        lines += [texts.DOUBTS.format(folds=_spelled(DOUBT_FOLDS), **named), *table_of_signs(signs)]
    return "\n".join(lines) + "\n" + texts.OUTRO


def table(results: Results, groups: Sequence[str]) -> list[str]:
    """Rows of some groups."""
    lines = [f"| layout | {' | '.join(SCORES.values())} | runs |", "|---" * (len(SCORES) + 2) + "|"]
    runs = [one["layouts"] for group in groups for one in results.get(group, [])]
    for name in dict.fromkeys(name for run in runs for name in run):
        own = [run[name] for run in runs if name in run]
        values = [_mean([one[key] for one in own if key in one]) for key in SCORES]
        lines.append(f"| {name} | {' | '.join(values)} | {len(own)} |")
    return lines


def table_of_trials(runs: Sequence[dict[str, dict[str, float]]]) -> list[str]:
    """A row per change of the network: mean differences from the first, marked where all runs agree."""
    columns = [(part, key) for part, keys in _OF_TRIALS.items() for key in keys]
    lines = [f"| change | {' | '.join(f'{part}: {SCORES[key]}' for part, key in columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    first, *others = dict.fromkeys(name.split(": ", 1)[1] for run in runs for name in run)
    lines.append(
        f"| {first} | {' | '.join(_mean([run[f'{p}: {first}'][key] for run in runs]) for p, key in columns)} |"
    )
    for name in others:
        own = [run for run in runs if f"finished: {name}" in run]
        gains = [[run[f"{p}: {name}"][key] - run[f"{p}: {first}"][key] for run in own] for p, key in columns]
        cells = [_marked(gain, lower=key in _LOWER) for gain, (_, key) in zip(gains, columns, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def by_seed(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, str]:
    """The most that E_geo differs from the first row where nothing but the seed was changed, alone and finished."""
    first, *others = trials.SEEDS
    most = {
        part: max(
            abs(run[f"{part}: {one}"]["e_geo"] - run[f"{part}: {first}"]["e_geo"]) for run in runs for one in others
        )
        for part in _OF_TRIALS
    }
    return {part.split()[-1]: f"{value:.3f}" for part, value in most.items()}


def in_short(results: Results) -> str:
    """Scores of every change of the network, fold by fold: the part of ``docs/recipe.md``."""
    runs = [one["layouts"] for one in results["networks"]]
    columns = [(part, key) for part in _OF_TRIALS for key in ("e_geo", "luna_spearman")]
    lines = [f"| change | {' | '.join(f'{SCORES[key]}, {part}' for part, key in columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name in dict.fromkeys(name.split(": ", 1)[1] for run in runs for name in run):
        cells = [" and ".join(f"{run[f'{part}: {name}'][key]:.2f}" for run in runs) for part, key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _marked(differences: Sequence[float], *, lower: bool) -> str:
    """The mean: bold where all are gains, italic where all are losses."""
    signs, mean = {(x < 0) == lower for x in differences if x}, f"{np.mean(differences):+.3f}"
    return f"**{mean}**" if signs == {True} else f"*{mean}*" if signs == {False} else mean


def _mean(found: Sequence[float]) -> str:
    """A dash, where no run has kept the score."""
    return f"{np.mean(found):.3f}" if found else "–"


def table_of_neighbors(shares: dict[str, dict[str, float]]) -> list[str]:
    """A row per number of components, a column per slide; a value per number of averages."""
    default = SlidePCs()
    words = {"steps": ", ".join(map(str, neighbors.STEPS))}
    numbers = {"n_components": default.n_components, "n_steps": default.n_steps}
    lines = [texts.NEIGHBORS.format(**words, **numbers)]
    lines += [f"| components | {' | '.join(shares)} |", "|---" * (len(shares) + 1) + "|"]
    for n in neighbors.COMPONENTS:
        values = [" → ".join(f"{one[f'{n}, {steps}']:.3f}" for steps in neighbors.STEPS) for one in shares.values()]
        lines.append(f"| {n} | {' | '.join(values)} |")
    return lines


def table_of_signs(signs: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """A row per sign and fold."""
    lines = [f"| sign | fold | {' | '.join(doubts.SCORES.values())} |", "|---" * (len(doubts.SCORES) + 2) + "|"]
    for fold, rows in signs.items():
        for name, row in rows.items():
            lines.append(f"| {name} | {fold} | {' | '.join(f'{row[key]:.3f}' for key in doubts.SCORES)} |")
    return lines


def _spelled(folds: Sequence[str]) -> str:
    return ", ".join(map(spelled, folds))
