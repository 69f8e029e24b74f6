"""The figure of the benchmarks' page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages.comparisons import COLUMNS, GOAL, OURS, REFERENCES, Results, values, with_ipar

FIGURE = "benchmarks.png"
SPEARMAN = GOAL[0]


def draw(results: Results, path: Path) -> None:
    """LUNA Spearman of ipar, the best other method, the reference and chance."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt  # late: runs in processes of their own need none, and measure their memory

    mpl.use("Agg")
    shown = with_ipar(results)
    series: dict[str, tuple[str, str, list[float]]] = {
        "ipar": ("o", "#0072B2", [_best(methods, {"ipar"}) for methods in shown.values()]),
        "best other method": ("s", "#E69F00", [_best(m, m.keys() - OURS - REFERENCES) for m in shown.values()]),
        "within-slide reference": ("D", "#009E73", [_best(m, {"within_slide_mlp"}) for m in shown.values()]),
        "chance": ("x", "#777777", [_best(methods, {"permuted"}) for methods in shown.values()]),
    }
    figure, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    for name, (marker, color, heights) in series.items():
        ax.plot(range(len(shown)), heights, marker, color=color, label=name, markersize=6)
    ax.set_xticks(range(len(shown)), list(shown))
    ax.set_ylabel(COLUMNS[SPEARMAN][0])
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _best(methods: dict[str, list[dict[str, Any]]], names: Iterable[str]) -> float:
    """The highest mean of some methods, NaN where none was run."""
    return max((float(values(methods[name], SPEARMAN).mean()) for name in names if name in methods), default=np.nan)
