"""The ladder and refinement on the page of the family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.family.ladder import RUNGS
from benchmarks.family.ladder_figure import draw
from benchmarks.family.polish import SCORES
from benchmarks.pages.comparisons import COLUMNS
from benchmarks.tasks.records import read

CAPTION = (
    "*One miniset per rung, true positions above, the layout turned onto them below; colour is the true position. An energy"
    " near zero is no proof of the right shape: E_geo compares neighbourhoods, and a part that is folded over, as in some of"
    " these, costs it little.*"
)


def spread(numbers: np.ndarray, digits: int = 2) -> str:
    """Mean ± sd, or a dash."""
    if not len(numbers):
        return "–"
    sd = f" ± {numbers.std(ddof=1):.{digits}f}" if len(numbers) > 1 else ""
    return f"{numbers.mean():.{digits}f}{sd}"


def ladder(folder: Path, pictures: Path | None) -> list[str]:
    """One row per rung, and a picture, of every task that was climbed; pictures only where there is a folder for them."""
    lines = ["## The validation ladder", "", "A rung that fails says that those above it mean nothing.", ""]
    by_task: dict[str, dict[str, Any]] = {}
    for record in read("ladder", folder):
        by_task.setdefault(record["task"], {})[record["rung"]] = record
    for task, rungs in by_task.items():
        lines += [f"On {task}:", "", "| rung | figures | bounds | passed | reported |", "|---" * 5 + "|"]
        for name, rung in RUNGS.items():
            if name not in rungs:
                lines.append(f"| {rung.title} | not measured | | | {rung.reported} |")
                continue
            result = rungs[name]
            figures = "; ".join(f"{key} {value:.3g}" for key, value in result["figures"].items())
            bounds = "; ".join(_bound(key, *limits) for key, limits in rung.bounds.items())
            lines.append(
                f"| {rung.title} | {figures} | {bounds} | {'yes' if result['passed'] else '**no**'} | {rung.reported} |"
            )
        lines.append("")
        if pictures and draw(rungs, pictures / f"ladder_{task}.png"):
            lines += [f"![Layouts of the ladder on {task}](ladder_{task}.png)", "", CAPTION, ""]
    return lines


def polishing(folder: Path, tasks: list[str]) -> list[str]:
    """Scores before and after, and how many seeds they got better in."""
    titles = {key: COLUMNS[key] for key in SCORES}
    lines = [
        "## Does refinement help?",
        "",
        "`ipar.tl.optimise_coords` with `refine=True` moves a prediction to where walks agree with the candidate"
        " graph and the gate. Measured on a *training* slide that was held out (`python -m benchmarks.family.polish`): networks"
        " trained on the others place it, and it is refined. In brackets: seeds in which it got better.",
        "",
        "| task | | " + " | ".join(title for title, _ in titles.values()) + " |",
        "|---" * (len(titles) + 2) + "|",
    ]
    for task in tasks:
        runs = [run for run in read("polish", folder) if run["task"] == task]
        if not runs:
            continue
        before, after = (np.array([[run[when][key] for key in titles] for run in runs]) for when in ("before", "after"))
        signs = np.array([1 if more else -1 for _, more in titles.values()])
        better = (signs * (after - before) > 0).sum(axis=0)
        rows = [[spread(column) for column in scores.T] for scores in (before, after)]
        rows[1] = [f"{cell} ({n} of {len(runs)})" for cell, n in zip(rows[1], better, strict=True)]
        lines += [
            f"| {task} | {when} | " + " | ".join(row) + " |"
            for when, row in zip(("predicted", "refined"), rows, strict=True)
        ]
    return [*lines, ""]


def _bound(name: str, low: float, high: float) -> str:
    return f"{name} ≤ {high:g}" if np.isfinite(high) else f"{name} ≥ {low:g}"
