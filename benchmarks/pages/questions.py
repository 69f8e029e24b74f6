"""The page of the benchmarks in the documentation: one table per question."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.methods.labels import LABELS, PEERS
from benchmarks.pages.comparisons import (
    CERTAIN,
    COLUMNS,
    GOAL,
    PLAIN,
    REFERENCES,
    Margin,
    Results,
    gaps_of,
    label,
    localisable,
    margin_of,
    mean_sd,
    past_reference,
    short,
    values,
    with_ipar,
)
from benchmarks.pages.figure import FIGURE
from benchmarks.pages.tables import time_ratio
from benchmarks.tasks.tasks import TASKS

SPEARMAN = GOAL[0]
TIMED = ("ipar", "ipar_no_flow", "iga", "set_transformer", "distance_embedding")

INTRO = """# Benchmarks

Each method receives the expression of an unseen section and returns a place per cell. The true coordinates of that section
are used for the scores only. All scores ignore rotation, reflection and scale.

ipar runs with what is now `quality="best"`: {{func}}`ipar.tl.fit_ipalite`, then {{func}}`ipar.tl.predict_coords`.
{{doc}}`speed` compares the qualities. The other methods are controls and published peers, which `benchmarks/README.md` describes. Figures are means over up to
{seeds} seeds per task, and ± is one standard deviation. The full tables are in `benchmarks/tables.md`. Both pages are made
with

```bash
{command}
```

## How well does ipar place an unseen section?

Five scores are compared. Higher is better for LUNA Spearman (ranks of distances), kNN hit@20 (neighbours found) and contact
F1@1 % (the closest pairs). Lower is better for Procrustes RMSE (overall fit) and E_geo (neighbourhood geometry). The
bracket is the difference to the best other method of that score, seed by seed. Bold means that ipar is ahead by more than
one standard deviation.
"""

REFERENCE = """
## What does each task look like beside the within-slide reference?

The reference is a network trained on four fifths of the scored section itself, so it has seen that section. It is no
ceiling: ipar learns from several sections. *Chance* is the true coordinates dealt out at random.
"""

OTHERS = """
## How do the other methods do?

The table shows LUNA Spearman on tissues that can be localised. "Peer" marks a published method that runs from its own package.
A dash means that the data lack what the method needs. Variants on uncentred slides are in the full tables; the comparison
above includes them.
"""

SURE = """
## How sure is it?

{{func}}`ipar.tl.predict_coords` also returns an uncertainty per cell. The table compares it with the true error per cell.
*Certain half* is the median error of the more certain half of the cells, divided by the median error of all. *Best possible*
is the same with cells ordered by their true errors. The aim for the certain half is {aim:g} or less.
"""

GENERATIVE = """
## How does the generative model compare?

IGA ({{func}}`ipar.tl.fit_iga`) samples layouts; {{doc}}`iga` explains it. The table shows IGA minus ipar on the seeds that both
have. Bold means that IGA is ahead by more than one standard deviation.
"""

COST = """
## What does it cost?

Median seconds per run, training and prediction included, on one thread.
"""

COST_END = """
The runs were made on different machines and days. Runs of ipar on one task differ by up to {ratio:.1f} times, so only larger
differences mean anything. {{doc}}`speed` has single steps and memory."""


def page(results: Results, command: str) -> str:
    """The whole page."""
    shown = with_ipar(results)
    seeds = max(len(methods["ipar"]) for methods in shown.values())
    parts = [INTRO.format(seeds=seeds, command=command)]
    parts += [placed(shown), outcome(shown)]
    parts += [REFERENCE, f"![LUNA Spearman of ipar, the best other method and the reference](images/{FIGURE})\n"]
    parts += [beside_reference(shown), OTHERS, others(shown)]
    parts += [SURE.format(aim=CERTAIN), sure(shown), said_of_certainty(shown)]
    if any("iga" in methods for methods in shown.values()):
        parts += [GENERATIVE.format(), generative(shown)]
    parts += [COST, cost(shown), COST_END.format(ratio=time_ratio(results))]
    return "\n".join(parts) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A markdown table."""
    titles = list(head)
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *map(list, rows))]
    return "\n".join([lines[0], "|---" * len(titles) + "|", *lines[1:]])


def placed(shown: Results) -> str:
    """Scores of ipar, and the difference to the best other method."""
    rows = []
    for task, methods in shown.items():
        cells = [task, TASKS[task].kind if task in TASKS else "", verdict(methods)]
        for key in GOAL:
            margin = margin_of(methods, key)
            own = f"{values(methods['ipar'], key).mean():.3f}"
            cells.append(f"{own} ({marked(margin, mean_sd(margin.gaps, form='+.3f'))})" if margin else own)
        rows.append(cells)
    return table(["task", "slides", "can be localised", *(COLUMNS[key][0] for key in GOAL)], rows)


def marked(margin: Margin, text: str) -> str:
    """In bold where ours is ahead by more than one standard deviation."""
    return f"**{text}**" if margin.ahead and not margin.level else text


def verdict(methods: dict[str, list[dict[str, Any]]]) -> str:
    """What ipar says of the tissue before training."""
    return {True: "yes", False: "no: refused", None: "undecided"}[localisable(methods["ipar"])]


def outcome(shown: Results) -> str:
    """Wins and losses in words."""
    ahead, said, refused = [], [], []
    for task, methods in shown.items():
        if not localisable(methods["ipar"]):
            refused.append(task)
            continue
        margins = {key: margin for key in GOAL if (margin := margin_of(methods, key))}
        behind = {key: margin for key, margin in margins.items() if margin.level or not margin.ahead}
        if not behind:
            ahead.append(task)
        said += [f"On {task}, {text}." for text in _short_of(behind)]
    lines = [f"ipar is ahead in all five scores on {_listed(ahead)}."] if ahead else []
    lines += said
    if refused:
        lines.append(
            f"ipar refuses {_listed(refused)}: its check finds that expression does not tell the place there. It can still be "
            "run, but no method places these sections well, and being ahead means little."
        )
    return "\n" + "\n".join(f"- {line}" for line in lines)


def _short_of(behind: dict[str, Margin]) -> list[str]:
    """Scores in which ipar is level with another method, or behind it."""
    found: dict[tuple[bool, str], list[str]] = {}
    for key, margin in behind.items():
        found.setdefault((margin.level, margin.other), []).append(COLUMNS[key][0])
    return [
        f"ipar is level with {_the(other)} in {_listed(scores)}, and not ahead"
        if level
        else f"ipar is behind {_the(other)} in {_listed(scores)}"
        for (level, other), scores in found.items()
    ]


def _the(method: str) -> str:
    name = short(method)
    return name if method in PEERS or name[0].isupper() else f"the {name}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def beside_reference(shown: Results) -> str:
    """Spearman and neighbours of ipar beside the reference, and where it is below that."""
    named = {"ipar": "ipar", "within_slide_mlp": "reference"}
    columns = [(key, name) for key in GOAL[:2] for name in named]
    rows = [[task, *(_mean(methods.get(name), key) for key, name in columns)] for task, methods in shown.items()]
    below = [task for task, methods in shown.items() if (past := past_reference(methods)) is not None and past < 0]
    text = f"\n\nBy LUNA Spearman, ipar is below the reference on {_listed(below)}." if below else ""
    return table(["task", *(f"{COLUMNS[key][0]}: {named[name]}" for key, name in columns)], rows) + text


def _mean(runs: list[dict[str, Any]] | None, key: str) -> str:
    return f"{values(runs, key).mean():.3f}" if runs else "–"


def others(shown: Results) -> str:
    """Spearman of every method on the tasks that can be localised."""
    shown = {task: found for task, found in shown.items() if localisable(found["ipar"])}
    methods = list(dict.fromkeys(method for found in shown.values() for method in found))
    methods = [m for m in methods if m not in PLAIN | REFERENCES and not m.endswith("uncentred")]
    rows = [[_column(m), *(_mean(found.get(m), SPEARMAN) for found in shown.values())] for m in methods]
    return table(["method", *shown], rows)


CERTAINTY = ("uncertainty_spearman", "certain_half_median", "certain_half_median_bound")


def _with_certainty(methods: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [run for run in methods["ipar"] if all(key in run["scores"] for key in CERTAINTY)]


def sure(shown: Results) -> str:
    """How well the uncertainty orders the cells."""
    found = {task: _with_certainty(methods) for task, methods in shown.items()}
    rows = [[task, *(_mean(runs, key) for key in CERTAINTY), str(len(runs))] for task, runs in found.items()]
    return table(["task", "rank correlation with the error", "certain half", "best possible", "seeds"], rows)


def said_of_certainty(shown: Results) -> str:
    """Where the aim is reached."""
    halves = {
        task: values(runs, "certain_half_median").mean()
        for task, methods in shown.items()
        if localisable(methods["ipar"]) and (runs := _with_certainty(methods))
    }
    reached = [task for task, half in halves.items() if half <= CERTAIN]
    where = f"on {_listed(reached)}" if reached else "on no task"
    return f"\nThe certain half reaches the aim {where}."


def generative(shown: Results) -> str:
    """IGA minus ipar, and where it is behind."""
    rows, behind = [], dict[str, list[str]]()
    for task, methods in shown.items():
        if "iga" not in methods:
            continue
        cells = [task]
        for key in GOAL:
            margin = Margin("ipar", gaps_of(methods["iga"], methods["ipar"], key), bool(COLUMNS[key][1]))
            cells.append(marked(margin, f"{margin.gaps.mean():+.3f}") if len(margin.gaps) else "–")
            if len(margin.gaps) and not margin.ahead and not margin.level:
                behind.setdefault(COLUMNS[key][0], []).append(task)
        rows.append(cells)
    lost = "; ".join(f"in {score} on {_listed(tasks)}" for score, tasks in behind.items())
    text = f"\n\nIGA is behind by more than one standard deviation {lost}." if lost else ""
    return table(["task", *(COLUMNS[key][0] for key in GOAL)], rows) + text


def cost(shown: Results) -> str:
    """Seconds of some methods."""
    rows = []
    for task, methods in shown.items():
        found = [methods.get(method) for method in TIMED]
        cells = [f"{np.median([run['seconds'] for run in runs]):.0f}" if runs else "–" for runs in found]
        rows.append([task, *cells])
    return table(["task", *(_column(method) for method in TIMED)], rows)


def _column(method: str) -> str:
    names = {"ipar": "ipar", "ipar_no_flow": "ipar, `flow=False`", "iga": "IGA"}
    names |= {name: LABELS[name] for name in ("ipar_default", "ipar_fast")}
    return names.get(method) or (label(method) if method in PEERS else short(method))
