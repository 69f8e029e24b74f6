"""Single knobs of the recipe, recall of candidates, and the ellipsoids of IGA, on the page of the family."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.family.candidates import COUNTS
from benchmarks.family.claims import Gain
from benchmarks.family.experiments import BASES, BETAS, DEFAULT, FACTORS, TASKS, VARIANTS, WALK, pairs_of
from benchmarks.family.ladder_report import spread
from benchmarks.iga import experiments as iga
from benchmarks.tasks.records import read
from ipar.training import NetworkRecipe

Runs = dict[int, dict[str, Any]]
"""Records by seed."""

INTRO = """## Single knobs

V1, or D7 where terms are left out, by the default recipe with one thing changed, trained and scored as above. Cells are the E_geo on
candidates and gate; in brackets
by how many per cent that of the first row is above it, and how many seeds were paired. Walk, ramp and stress are varied in {epochs} epochs
of {n_minisets} minisets, as many steps as the default. Made with

```bash
python -m benchmarks.family.experiments --data ../shared/data
python -m benchmarks.iga.experiments --data ../shared/data
```
"""
SWEEP = """### β at inference

β is chosen among {betas} on the held-out training slide, by the networks that were trained without it. The gain is that of the test
slide: by how many per cent its E_geo at the β of the training is above that at the chosen one.
"""
EFFECTS = """### One value against another

The gain of a value over the first one, whatever the others are: by how many per cent the energy with the first is above that with the
other, in brackets the 95 % interval by Student's t over tasks, seeds and all values of the others.

| of | value | first | gain | pairs |
|---|---|---|---|---|"""
CANDIDATES = """## Candidates

Share of a cell's true neighbours, those of the training's targets, that are among its candidates, on minisets of the test slide.
Made with `python -m benchmarks.family.candidates --data ../shared/data`.
"""
IGA = """## IGA: with ellipsoids and without

Trained and measured as on `docs/iga.md`. A weight is that of the losses of the ellipsoids beside those of the pose. In space, slides
are four blocks of one section ({space}). RMSE and LUNA Spearman are of the mean of samples.
"""
_POSE = ("translation", "rotation", "auxiliary")


def experiments(folder: Path) -> list[str]:
    """All tables; a group that has not been measured has none."""
    found = by_name("family_experiments", folder)
    long = VARIANTS[BASES[WALK]]
    lines = [INTRO.format(epochs=long.training["max_epochs"], n_minisets=long.plan["n_minisets"])]
    for group in dict.fromkeys(one.group for one in VARIANTS.values()):
        base = BASES.get(group, DEFAULT)
        names = [base, *(name for name, one in VARIANTS.items() if one.group == group and name != base)]
        lines += [f"### By {group}", "", f"| variant | {' | '.join(TASKS)} |", "|---" * (len(TASKS) + 1) + "|"]
        for name in names:
            cells = [compared(found.get((task, name), {}), found.get((task, base), {})) for task in TASKS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    return [*lines, *effects(found), *sweeps(found), *recalls(folder), *ellipsoids(folder)]


def effects(found: dict[tuple[str, str], Runs]) -> list[str]:
    """What each factor does on average over the others, a row per value."""
    lines = [EFFECTS]
    for group, factors in FACTORS.items():
        first = VARIANTS[BASES.get(group, DEFAULT)].of(NetworkRecipe())
        for factor, level in factors.items():
            for value, pairs in pairs_of(group, factor).items():
                logs = [
                    x
                    for task, (name, twin) in product(TASKS, pairs)
                    for x in gains(found.get((task, name), {}), found.get((task, twin), {}))
                ]
                lines.append(f"| {factor} | {value:g} | {level(first):g} | {Gain.of_ratios(logs)} | {len(logs)} |")
    return [*lines, ""]


def by_name(page: str, folder: Path) -> dict[tuple[str, str], Runs]:
    """Records by task and variant."""
    found: dict[tuple[str, str], Runs] = {}
    for record in read(page, folder):
        found.setdefault((record["task"], record["variant"]), {})[record["seed"]] = record
    return found


def gains(own: Runs, base: Runs) -> list[float]:
    """Logarithms of the base's energy over that of a variant, seed by seed."""
    return [float(np.log(base[s]["e_geo_gated"] / own[s]["e_geo_gated"])) for s in sorted(set(own) & set(base))]


def compared(own: Runs, base: Runs) -> str:
    """Energy of a variant, and its gain over the base."""
    if not own:
        return "not measured"
    text, logs = spread(np.array([run["e_geo_gated"] for run in own.values()])), gains(own, base)
    if own is base or not logs:
        return text
    return f"{text} ({100 * np.expm1(np.mean(logs)):+.1f}, {len(logs)})"


def sweeps(found: dict[tuple[str, str], Runs]) -> list[str]:
    """What is gained by a β chosen on the held-out slide, and what the best on the test slide would."""
    lines = [
        SWEEP.format(betas=", ".join(f"{beta:g}" for beta in BETAS)),
        "| task | variant | chosen β | gain | best possible |",
    ]
    lines.append("|---" * 5 + "|")
    for (task, name), runs in found.items():
        if name not in VARIANTS or not VARIANTS[name].swept:
            continue
        trained = BETAS.index(VARIANTS[name].config.get("beta", 2.0))
        curves = [run["by_beta"] for _, run in sorted(runs.items())]
        chosen = [int(np.argmin(one["held_out"])) for one in curves]
        gains = [one["test"][trained] / one["test"][i] - 1 for one, i in zip(curves, chosen, strict=True)]
        most = [one["test"][trained] / min(one["test"]) - 1 for one in curves]
        cells = [", ".join(f"{BETAS[i]:g}" for i in chosen), *(f"{100 * np.mean(x):+.1f}" for x in (gains, most))]
        lines.append(f"| {task} | {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def recalls(folder: Path) -> list[str]:
    """Recall of candidates by their number and by the distance, means over seeds."""
    lines = [CANDIDATES, f"| task | distance | seeds | {' | '.join(f'k = {k}' for k in COUNTS)} |"]
    lines.append("|---" * (len(COUNTS) + 3) + "|")
    by_task: dict[str, list[dict[str, dict[str, float]]]] = {}
    for record in read("candidates", folder):
        by_task.setdefault(record["task"], []).append(record["recall"])
    for task, runs in by_task.items():
        for name in runs[0]:
            cells = [spread(np.array([run[name][str(k)] for run in runs]), 3) for k in COUNTS]
            lines.append(f"| {task} | {name} | {len(runs)} | {' | '.join(cells)} |")
    return [*lines, ""]


def ellipsoids(folder: Path) -> list[str]:
    """Variants of IGA on every task."""
    found = by_name("iga_experiments", folder)
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "pose loss, training": lambda run: sum(run["train"][name] for name in _POSE),
        "pose loss, unseen": lambda run: run["unseen"]["val_pose"],
        "RMSE": lambda run: run["predicted"]["mean_rmse"],
        "LUNA Spearman": lambda run: run["predicted"]["luna_spearman"],
        "kNN hit@20": lambda run: run["predicted"]["knn_hit_20"],
        "CPU seconds": lambda run: run["cpu_seconds"],
    }
    titles = ["task", "denoised", "seeds", *columns]
    lines = [IGA.format(space=iga.SPACE.kind), f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for task in iga.TASKS:
        for name in iga.VARIANTS:
            runs = list(found.get((task, name), {}).values())
            cells = [spread(np.array([value(run) for run in runs]), 3) for value in columns.values()]
            lines.append(f"| {task} | {name} | {len(runs)} | {' | '.join(cells)} |")
    return [*lines, ""]
