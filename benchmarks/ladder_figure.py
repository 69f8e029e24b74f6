"""The layouts of the ladder beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from ipar.pl._colors import position_colors
from ipar.pl._figure import as_map


def draw(rungs: dict[str, Any], path: Path) -> bool:
    """Write a picture with the truth above and the layout below of every rung that has one; False, if none has."""
    found: dict[str, Any] = {}
    for name in ("oracle", "overfit", "random", "target"):
        found |= rungs.get(name, {}).get("layouts", {})
    if not found:
        return False
    figure, axes = plt.subplots(
        2, len(found), figsize=(2.1 * len(found), 4.2), squeeze=False, layout="constrained", dpi=90
    )
    for (above, below), (title, pair) in zip(axes.T, found.items(), strict=True):
        truth, layout = np.array(pair["true"]), np.array(pair["found"])
        colors = position_colors(truth)
        for ax, points in ((above, truth), (below, layout)):
            ax.scatter(*points.T, c=colors, s=14, linewidths=0)
            as_map(ax, points)
        above.set_title(title.replace(", ", "\n"), fontsize=9)
    for ax, text in zip(axes[:, 0], ("truth", "layout"), strict=True):
        ax.set_ylabel(text, fontsize=9)
    figure.savefig(path)
    plt.close(figure)
    return True
