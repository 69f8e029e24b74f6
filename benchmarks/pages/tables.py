"""The long tables: every method and score of every task, what each step brings, what ipar chose."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from benchmarks.methods.labels import LABELS
from benchmarks.pages.ablations import section as ablations
from benchmarks.pages.comparisons import (
    COLUMNS,
    PLAIN,
    REFERENCES,
    Results,
    aims,
    applicable,
    cell,
    glance,
    glance_at_iga,
    kept,
    label,
    paired,
    values,
)
from benchmarks.tasks.records import read
from benchmarks.tasks.tasks import TASKS

INTRO = """# Tables of the benchmarks

`docs/benchmarks.md` says what they come to.

Every method places a slide of which it gets the expression only; the slide's coordinates reach no choice (the two rows
marked otherwise read them, for reference). Scores do not depend on rotation, reflection or scale. Means ± sd over the
seeds given (of {seeds}; one run alone has no sd); **bold** is the best of the methods that read no truth. E_geo is the mean over 20 random
minisets of the placed slide, cut from the whole-slide layout for every method alike. Lower is better for Procrustes RMSE (in RMS radii),
Stress-1 and E_geo. Evenness (the standard deviation of the log distance to the sixth neighbour) over that of the true slide is best near 1:
clumps and holes raise it. A dash marks what older runs have not kept. The row **ipar** is `ipar.tl.fit_ipalite(train, library_key="slide")` and `ipar.tl.predict_coords(test, model)`,
with nothing set but the seed. Peers are published methods, run from their packages by `benchmarks.peers.run`. Rows of plain
components are ipar as it was when it read principal components alone, all genes alike
(`EncoderRecipe(n_pcs=(30, 100), spatial_share=0, weigh_genes=False)`). Made with

```bash
{command}
```
"""


def page(results: Results, options: argparse.Namespace, command: str) -> str:
    """All tables."""
    parts = [INTRO.format(seeds=", ".join(map(str, options.seeds)), command=command)]
    parts += [glance(results), aims(results), glance_at_iga(results)]
    for task, by_method in results.items():
        parts += [section(task, by_method)]
    parts += [ablations(read("ablations", options.out)), footer(results, options)]
    return "\n".join(parts)


def section(task: str, by_method: dict[str, list[dict[str, Any]]]) -> str:
    """One task: its verdict, the table of scores, the paired differences."""
    spec = TASKS[task]
    train = "all other slides" if spec.train is None else " + ".join(spec.train)
    n_seeds = len(next(iter(by_method.values())))
    lines = [f"## {task}", "", f"{spec.kind}: {train} → {spec.test}. {_seeds(n_seeds)}.", ""]
    verdicts = [run["localisability"] for run in by_method.get("ipar", []) if "localisability" in run]
    if verdicts:
        lines += [_verdict(verdicts), ""]
    shown = applicable(by_method)
    best = _best(shown)
    lines += ["| method | " + " | ".join(title for title, _ in COLUMNS.values()) + " | seconds | peak GiB |"]
    lines += ["|---" * (len(COLUMNS) + 3) + "|"]
    for method, runs in shown.items():
        cells = [cell(kept(runs, key), bold=best.get(key) == method) for key in COLUMNS]
        cost = [f"{np.median([r['seconds'] for r in runs]):.0f}", f"{max(r['peak_gib'] for r in runs):.1f}"]
        seeds = f" ({_seeds(len(runs))})"
        lines.append(f"| {label(method)}{seeds} | " + " | ".join(cells + cost) + " |")
    missing = [label for m, label in LABELS.items() if m not in by_method and m not in PLAIN]
    if missing:
        lines += ["", f"Not measured yet: {'; '.join(missing)}."]
    skipped = [f"{label(m)} ({runs[0]['skipped']})" for m, runs in by_method.items() if m not in shown]
    if skipped:
        lines += ["", f"Not applicable: {'; '.join(skipped)}"]
    for method in ("ipar", "iga"):
        if any("uncertainty_spearman" in run["scores"] for run in shown.get(method, [])):
            lines += ["", _uncertainty(method, shown[method])]
    if "ipar" in shown:
        lines += ["", paired(shown)]
    return "\n".join(lines) + "\n"


def _verdict(verdicts: list[dict[str, float]]) -> str:
    yes = sum(bool(v["localisable"]) for v in verdicts)
    spearman, permuted, recall = (
        np.mean([v[key] for v in verdicts]) for key in ("distance_spearman", "permutation_spearman", "recall_ratio")
    )
    shares = [v["explained"] for v in verdicts if "explained" in v]  # earlier runs have none
    explained = f"{np.mean(shares):.0%} of positions explained, " if shares else ""
    word = {0: "**not localisable**", len(verdicts): "localisable"}.get(
        yes, f"localisable in {yes} of {len(verdicts)} seeds"
    )
    return (
        f"ipar's verdict before training: {word} (training slides held out: {explained}distance Spearman {spearman:.2f}, permuted "
        f"{permuted:.2f}; candidate recall {recall:.1f} × chance)."
    )


def _uncertainty(method: str, runs: list[dict[str, Any]]) -> str:
    name = {"ipar": "ipar", "iga": "IGA"}[method]
    runs = [run for run in runs if "uncertainty_spearman" in run["scores"]]  # not every run has been measured with it
    spearman, half = (cell(values(runs, key), bold=False) for key in ("uncertainty_spearman", "certain_half_error"))
    text = (
        f"{name}'s uncertainty of a cell has a Spearman correlation of {spearman} with its error; the more certain half of the "
        f"cells has {half} times the mean error of all"
    )
    newer = [run for run in runs if "certain_half_median" in run["scores"]]  # not kept by the first runs
    if not newer:
        return f"{text}."
    median = cell(values(newer, "certain_half_median"), bold=False)
    text = f"{text}, and {median} times the median error ({_seeds(len(newer))})"
    bounded = [run for run in newer if "certain_half_median_bound" in run["scores"]]
    if not bounded:
        return f"{text}."
    bound = cell(values(bounded, "certain_half_median_bound"), bold=False)
    return f"{text}. Cells ordered by their true errors would have {bound} there: no uncertainty can have less ({_seeds(len(bounded))})."


def _seeds(n: int) -> str:
    return f"{n} seed{'s' if n > 1 else ''}"


def _best(shown: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    best = {}
    for key, (_, more) in COLUMNS.items():
        found = {m: kept(runs, key) for m, runs in shown.items() if m not in REFERENCES}
        means = {m: own.mean() if more is not None else abs(np.log(own.mean())) for m, own in found.items() if len(own)}
        if means:
            best[key] = (max if more else min)(means, key=lambda m: means[m])
    return best


def footer(results: Results, options: argparse.Namespace) -> str:
    """What was chosen, and how times were taken."""
    names = (
        "task",
        "seed",
        "encoder input",
        "components",
        "β",
        "epochs",
        "weight of the set encoder",
        "sketch",
        "share of the overview",
        "hold λ",
        "own share ω",
    )
    lines = ["## What ipar chose", "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for task, by_method in results.items():
        for i, run in enumerate(by_method.get("ipar", [])):
            chosen = run.get("chosen", {})
            sharp = chosen.get("sharpening") or {"hold": "not sharpened", "own": "–"}
            own = sharp.get("slide_pc_share", sharp.get("own"))
            values = [chosen.get(key, "–") for key in ("inputs", "n_pcs", "beta", "epochs")]
            drawn = "yes" if chosen.get("sketch") else "no"
            values += [
                chosen.get("set_encoder_weight", chosen.get("overview_weight", 1.0)),
                drawn,
                chosen.get("global_weight", "–"),
            ]
            row = [task, run.get("seed", i), *values, sharp["hold"], own]
            lines.append("| " + " | ".join(map(str, row)) + " |")
    lines += [
        "",
        f"Seconds (median) and peak memory (largest) are of whole runs, training included, with {options.threads} thread "
        f"a run and {options.jobs} runs at a time. They were measured on several days and machines: seeds of ipar on one task differ by up "
        f"to {time_ratio(results):.1f} times, so that only differences beyond that mean anything. A seed repeats to the digit on one kind "
        "of processor alone.",
    ]
    return "\n".join(lines) + "\n"


def time_ratio(results: Results) -> float:
    """Largest ratio of the longest to the shortest run of ipar on one task, 1 where there are no two."""
    seconds = [[run["seconds"] for run in by_method.get("ipar", [])] for by_method in results.values()]
    return max((max(runs) / min(runs) for runs in seconds if runs), default=1.0)
