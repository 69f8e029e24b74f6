"""How many of a cell's nearest in its slide's own expression are true neighbours: for the defaults of the sharpening."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tasks
from ipar._expression import get_expression
from ipar.model.features import own_components
from ipar.training.finish import rank_shares

# slides that are only ever trained on
SLIDES = {
    "Hippo1": tasks.Task("Hippo1", "mouse_brain_st.h5ad", "Hippo1", None, ""),
    "Hippo4": tasks.Task("Hippo4", "mouse_brain_st.h5ad", "Hippo4", None, ""),
    "Hippo5": tasks.Task("Hippo5", "mouse_brain_st.h5ad", "Hippo5", None, ""),
    "Hippo8": tasks.Task("Hippo8", "mouse_brain_st.h5ad", "Hippo8", None, ""),
    "embryo1": tasks.Task("embryo1", "mouse_embryo_seqfish.h5ad", "embryo1", None, "", counts=False),
}
COMPONENTS, STEPS = (30, 50, 100, 200), (0, 1, 2, 3)


def measure(slide: str, data: Path) -> dict[str, float]:
    """Share of true neighbours (of 20) among the nearest eight, by ``"components, steps"``."""
    query = tasks.load(SLIDES[slide], data)
    matrix = get_expression(query.query).matrix
    codes = np.zeros(matrix.shape[0], dtype=np.int64)
    coords = np.asarray(query.truth, dtype=np.float32)
    found = {}
    for n_components in COMPONENTS:
        for n_steps in STEPS:
            own = own_components(matrix, codes, n_components, n_steps)
            found[f"{n_components}, {n_steps}"] = float(rank_shares(own, None, coords)["hit"].iloc[0])
    return found


def section(results: dict[str, dict[str, Any]]) -> list[str]:
    """A markdown table: a row a number of components, a column a slide; a value a number of averages."""
    if not results:
        return []
    lines = [
        "",
        "## Neighbours in a slide's own expression",
        "",
        f"Share of true neighbours among a cell's nearest eight by cosine distance of the slide's own principal components, "
        f"averaged with those of like cells {', '.join(map(str, STEPS))} times. No training has a part in it, and none of "
        "these slides is scored in `docs/benchmarks.md`. The default is 100 components, averaged twice.",
        "",
        f"| components | {' | '.join(results)} |",
        "|---" * (len(results) + 1) + "|",
    ]
    for n in COMPONENTS:
        values = [" → ".join(f"{run[f'{n}, {steps}']:.3f}" for steps in STEPS) for run in results.values()]
        lines.append(f"| {n} | {' | '.join(values)} |")
    return lines
