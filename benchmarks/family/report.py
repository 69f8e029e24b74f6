"""The page of the family: its table, and what agrees with the reported order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.family.fits import Budget
from benchmarks.family.ladder_report import ladder, polishing, spread
from benchmarks.family.members import CLAIMS, DEFAULT_NEIGHBORS, MEMBERS, Claim
from benchmarks.tasks.records import read
from benchmarks.tasks.tasks import TASKS

READING = Path(__file__).with_name("reading.md")
Runs = dict[str, dict[int, dict[str, Any]]]
"""Results as ``[member][seed]``."""

INTRO = """# The IPA-Lite family

Every member of the family is one config of one network (`ipar.nn.IPALiteConfig`). Here all of them are trained
and scored alike on real slides, together with the ladder that a working method has to climb. Made with

```bash
python -m benchmarks.family.run --data ../shared/data --markdown benchmarks/family.md
python -m benchmarks.family.ladder --data ../shared/data
```

**How.** No coordinate of the scored slide is read before the scores. The encoder (principal components in, 128 wide) is trained
on the training slides alone, and networks on cross-fitted embeddings of these. Epochs are chosen on a held-out training slide,
before the networks are trained again on all training slides. The version of ipar that measured these records chose the gate's
weight β there too. All members of a seed share embeddings, minisets and the scored minisets, so that differences are paired.

**At reduced training.** {n_minisets} training minisets of {low} to {high} cells; at most {epochs} epochs, of which {ramp} are the
ramp; {gate_steps} steps of gate pretraining; steps of one miniset at a learning rate of {lr:g}; {n_scored} scored minisets; at most
{max_cells:,} cells per slide, a random subset of larger ones. This is a small part of a default fit. The order of members and
the size of differences between them can be read. The values themselves are those of short training, and lie above those of
`docs/benchmarks.md`. Seconds are of one CPU core that had other work too.

**Reported** figures are the design's. They come from another slide set, longer training, and an encoder that by all
signs had seen the coordinates of the scored slide: their order is the claim to test, not their size.
"""

COLUMNS = "| member | E_geo, candidates and gate | E_geo, target edges, no gate | recall@30 | parameters | seconds | reported |"


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


def _seeds(n: int) -> str:
    return "One seed" if n == 1 else f"Mean ± sd of {n} seeds"


def parameters(run: dict[str, Any]) -> str:
    """Those of the network, and of the gate where there is one."""
    net, gate = run["parameters"]["net"], run["parameters"]["gate"]
    return "–" if not net else f"{net:,} + {gate:,}" if gate else f"{net:,}"


def table(task: str, runs: Runs) -> list[str]:
    """One row per member."""
    spec = TASKS[task]
    seeds = sorted({seed for by_seed in runs.values() for seed in by_seed})
    chance = [run["recall30_chance"] for run in runs.get("v1", {}).values()]
    trained = " + ".join(spec.train or ("all others",))
    lines = [f"## {task}", "", f"{spec.kind}: {trained} → {spec.test}. {_seeds(len(seeds))}."]
    if chance:
        lines[-1] += (
            f" Recall@30 is of the last recycle; attention that cannot tell {DEFAULT_NEIGHBORS} candidates apart has"
            f" {np.mean(chance):.2f}."
        )
    lines += ["", COLUMNS, "|---" * 7 + "|"]
    for name, member in MEMBERS.items():
        by_seed = runs.get(name, {})
        if not by_seed:
            lines.append(f"| {member.label} | not measured | | | | | {member.reported} |")
            continue
        label = member.label if len(by_seed) == len(seeds) else f"{member.label} ({_seeds(len(by_seed)).lower()})"
        cells = [spread(values(by_seed, key)) for key in ("e_geo_gated", "e_geo_target", "recall30")]
        cells += [parameters(next(iter(by_seed.values()))), f"{values(by_seed, 'seconds').mean():.0f}"]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {member.reported} |")
    return [*lines, ""]


def differences(claim: Claim, runs: Runs) -> np.ndarray:
    """How much better the better one is, seed by seed; empty without common seeds."""
    first, second = runs.get(claim.better, {}), runs.get(claim.worse, {})
    sign = -1.0 if claim.score == "recall30" else 1.0
    return np.array([sign * (second[s][claim.score] - first[s][claim.score]) for s in sorted(set(first) & set(second))])


def verdict(claim: Claim, gains: np.ndarray) -> str:
    """Whether all seeds say the same: a difference in one direction in each of them."""
    if not len(gains):
        return "not measured"
    one_way = bool((gains > 0).all() or (gains < 0).all())
    if claim.alike:
        return "one seed" if len(gains) < 2 else "differs" if one_way else "agrees"
    if not one_way:
        return "undecided"
    word = "agrees" if gains[0] > 0 else "**contradicts**"
    return word if len(gains) > 1 else f"{word}, one seed"


def summary(results: dict[str, Runs]) -> list[str]:
    """Claims by outcome: on all tasks, on one of them."""
    groups: dict[str, list[str]] = {}
    for claim in CLAIMS:
        found = {task: verdict(claim, differences(claim, runs)) for task, runs in results.items()}
        firm = {task: word for task, word in found.items() if word in ("agrees", "**contradicts**", "differs")}
        kinds = {"agrees" if word == "agrees" else "disagrees" for word in firm.values()}
        text = claim.text.removeprefix("… ")
        if len(kinds) > 1:
            groups.setdefault("Tasks disagree on", []).append(text)
        elif firm:
            where = "" if len(firm) == len(results) else f" ({', '.join(firm)} alone)"
            title = "Reported and found" if kinds == {"agrees"} else "Reported, but found otherwise"
            groups.setdefault(title, []).append(text + where)
        else:
            groups.setdefault("Not decided by these seeds", []).append(text)
    order = ("Reported and found", "Reported, but found otherwise", "Tasks disagree on", "Not decided by these seeds")
    return [line for title in order if title in groups for line in (f"**{title}:** {'; '.join(groups[title])}.", "")]


def agreement(results: dict[str, Runs]) -> list[str]:
    """Every claim on every task, and the correlation of the orders."""
    lines = [
        "## Where this agrees with the reported order",
        "",
        "How much better the member that was reported to be better is here, in E_geo (in recall, where that is the"
        " claim), paired over seeds. *Agrees* or **contradicts**: in every seed; *undecided*: seeds differ. Of members"
        " reported alike, *agrees* where seeds differ on which is better, *differs* where all say the same.",
        "",
        "| claim | " + " | ".join(results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for claim in CLAIMS:
        cells = []
        for runs in results.values():
            gains = differences(claim, runs)
            cells.append(f"{verdict(claim, gains)} ({spread(gains)})" if len(gains) else "not measured")
        lines.append(f"| {claim.text} | " + " | ".join(cells) + " |")
    lines += ["", *summary(results)]
    for task, runs in results.items():
        names = [n for n, m in MEMBERS.items() if m.energy is not None and m.embedding == "own" and n in runs]
        if len(names) > 2:
            pairs = [(MEMBERS[n].energy, values(runs[n], "e_geo_gated").mean()) for n in names]
            rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
            lines.append(
                f"On {task} the reported and the measured order of {len(names)} members (without random embeddings)"
                f" have a Spearman correlation of {rho:.2f}."
            )
            lines.append("")
    return lines


def certain(results: dict[str, Runs]) -> str:
    """Members that are worse, or better, than V1 in every seed of a task."""
    said = []
    for task, runs in results.items():
        gaps = {name: differences(Claim("", "v1", name), runs) for name in runs if name not in ("v1", "oracle")}
        for word, sign in (("worse", 1), ("better", -1)):
            found = [MEMBERS[name].label for name, gap in gaps.items() if len(gap) and (sign * gap > 0).all()]
            said.append(f"On {task}, {word} than V1 in every seed: {'; '.join(found) or 'none'}.")
    return "**What is certain** at this length of training. " + " ".join(said)


def page(budget: Budget, tasks: list[str], folder: Path, pictures: Path | None) -> str:
    """The page, from records of some tasks; pictures are drawn only where there is a folder for them."""
    results, recipe = {task: load(folder, task) for task in tasks}, budget.training
    intro = INTRO.format(
        n_minisets=budget.n_minisets,
        low=budget.size[0],
        high=budget.size[1],
        epochs=recipe.max_epochs,
        ramp=recipe.ramp_epochs,
        gate_steps=recipe.gate_steps,
        lr=recipe.lr,
        n_scored=budget.n_scored,
        max_cells=budget.max_cells,
    )
    parts = [intro, *(line for task, runs in results.items() for line in table(task, runs))]
    parts += [*agreement(results), *ladder(folder, pictures), *polishing(folder, tasks)]
    parts += [READING.read_text(encoding="utf-8").replace("{certain}", certain(results))]
    return "\n".join(parts).rstrip() + "\n"
