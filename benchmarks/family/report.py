"""The page of the family: its tables, and how the claims of the design fare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.family.claims import agreement
from benchmarks.family.experiment_report import experiments
from benchmarks.family.fits import Protocol
from benchmarks.family.ladder_report import ladder, polishing, spread
from benchmarks.family.members import DEFAULT_NEIGHBORS, MEMBERS
from benchmarks.tasks.records import read
from benchmarks.tasks.tasks import TASKS

READING = Path(__file__).with_name("reading.md")
Runs = dict[str, dict[int, dict[str, Any]]]
"""Results as ``[member][seed]``."""

INTRO = """# The IPA-Lite family

Every member of the family is one config of one network (`ipar.nn.IPALiteConfig`). Here all of them are trained
and scored alike on real slides, together with the ladder that a working method has to climb. Made with

```bash
python -m benchmarks.family.run --data ../shared/data --markdown benchmarks/family.md --docs docs/family.md
python -m benchmarks.family.ladder --data ../shared/data
python -m benchmarks.family.polish --data ../shared/data
```

**How.** No coordinate of the scored slide is read before the scores. The encoder is that of `fit_ipalite(quality="fast")`, trained
on the training slides alone, and networks are trained on cross-fitted embeddings of these. The recipe of the network is the
default of `fit_ipalite`: {n_minisets} minisets of {low} to {high} cells, at most {epochs} epochs, of which {ramp} are the ramp of the
walk loss, a learning rate of {lr:g}, {gate_steps} steps of the gate alone. The gate's weight β is that of the training. Epochs
are chosen on a held-out training slide. With fewer than four training slides, training then goes on with all of them. Members of
a seed share embeddings, minisets and scored cells, so that differences are paired. Energies and attention are those of
{n_scored} minisets of the test slide. LUNA Spearman is that of the network alone on the whole test slide. Seconds are CPU seconds.

**Reported** figures are the design's. They come from another slide set, and from an encoder that by all signs had seen the
coordinates of the scored slide: their order is the claim to test, not their size.
"""

COLUMNS = (
    "member",
    "E_geo, candidates and gate",
    "E_geo, target edges, no gate",
    "LUNA Spearman",
    "recall@30",
    "sd of logits",
    "entropy, nats",
    "parameters",
    "seconds",
    "reported E_geo",
)


def load(folder: Path, task: str) -> Runs:
    """What has been measured of a task."""
    found: Runs = {}
    for run in read("family", folder):
        if run["task"] == task and run["member"] in MEMBERS:
            found.setdefault(run["member"], {})[run["seed"]] = run
    return found


def values(runs: dict[int, dict[str, Any]], key: str) -> np.ndarray:
    """A score of all seeds that have it."""
    return np.array([run[key] for _, run in sorted(runs.items()) if run.get(key) is not None], dtype=float)


def last(runs: dict[int, dict[str, Any]], key: str) -> np.ndarray:
    """A figure of the last recycle, of all seeds that have it."""
    return np.array([run["health"][key][-1] for _, run in sorted(runs.items()) if "health" in run], dtype=float)


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def parameters(run: dict[str, Any]) -> str:
    """Those of the network, and of the gate where there is one."""
    net, gate = run["parameters"]["net"], run["parameters"]["gate"]
    return "–" if not net else f"{net:,} + {gate:,}" if gate else f"{net:,}"


def table(task: str, runs: Runs) -> list[str]:
    """One row per member."""
    spec = TASKS[task]
    chance = [run["health"]["attention_recall_chance"] for run in runs.get("v1", {}).values()]
    trained = " + ".join(spec.train or ("all others",))
    lines = [
        f"## {task}",
        "",
        f"{spec.kind}: {trained} → {spec.test}. Mean ± sd of the seeds in brackets. Figures of attention are of the last recycle.",
    ]
    if chance:
        lines[-1] += (
            f" Attention that cannot tell {DEFAULT_NEIGHBORS} candidates apart has a recall of {np.mean(chance):.2f}."
        )
    lines += ["", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, member in MEMBERS.items():
        by_seed = runs.get(name, {})
        if not by_seed:
            lines.append(f"| {member.label} | not measured {'| ' * (len(COLUMNS) - 3)}| {member.reported} |")
            continue
        cells = [spread(values(by_seed, key)) for key in ("e_geo_gated", "e_geo_target", "luna_spearman", "recall30")]
        cells += [spread(last(by_seed, key), 1) for key in ("logit_std", "attention_entropy")]
        cells += [parameters(next(iter(by_seed.values()))), f"{values(by_seed, 'seconds').mean():.0f}"]
        lines.append(f"| {member.label} ({_seeds(len(by_seed))}) | " + " | ".join(cells) + f" | {member.reported} |")
    return [*lines, ""]


def geometry(results: dict[str, Runs]) -> list[str]:
    """What geometry terms learn, where they were measured."""
    lines = [
        "## What geometry terms learn",
        "",
        "Spearman correlations over candidate edges, recycle by recycle, means over heads, minisets and seeds: of the term with"
        " attention, and with the distance in the layout that it reads. Above zero, the latter means that the term prefers"
        " distant cells. *Constant*: in every set of a seed the term is the same on all edges. Offsets of `point` are in RMS radii.",
        "",
        "| task | member | term and attention | term and distance | norm of offsets |",
        "|---" * 5 + "|",
    ]
    for task, runs in results.items():
        for name in MEMBERS:
            own = [run for run in runs.get(name, {}).values() if "rho_distance" in run]
            if own:
                cells = [_by_recycle(own, key) for key in ("rho_attention", "rho_distance", "offsets")]
                lines.append(f"| {task} | {MEMBERS[name].label} ({_seeds(len(own))}) | {' | '.join(cells)} |")
    return [*lines, ""]


def _by_recycle(runs: list[dict[str, Any]], key: str) -> str:
    """Means over runs that have it, recycle by recycle."""
    rows = [[x for x in row if x is not None] for row in zip(*(run[key] for run in runs if key in run), strict=True)]
    return ", ".join(f"{np.mean(row):.2f}" if row else "constant" for row in rows) or "–"


def page(protocol: Protocol, tasks: list[str], folder: Path, pictures: Path | None) -> str:
    """The page, from records of some tasks; pictures are drawn only where there is a folder for them."""
    results, recipe = {task: load(folder, task) for task in tasks}, protocol.recipe
    intro = INTRO.format(
        n_minisets=recipe.plan.n_minisets,
        low=recipe.plan.size[0],
        high=recipe.plan.size[1],
        epochs=recipe.training.max_epochs,
        ramp=recipe.training.ramp_epochs,
        gate_steps=recipe.training.gate_steps,
        lr=recipe.training.lr,
        n_scored=protocol.n_scored,
    )
    parts = [intro, *agreement(results), *(line for task, runs in results.items() for line in table(task, runs))]
    parts += [*geometry(results), *experiments(folder), *ladder(folder, pictures), *polishing(folder, tasks)]
    return "\n".join([*parts, READING.read_text(encoding="utf-8")]).rstrip() + "\n"
