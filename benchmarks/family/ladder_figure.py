"""The layouts of the ladder beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from numpy.typing import NDArray

# bottom left, bottom right, top left, top right
_CORNERS = to_rgba_array(["#342a86", "#8f3a00", "#46b9ef", "#f4d63a"])[:, :3]


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
        for ax, points in ((above, truth), (below, layout)):
            ax.scatter(*points.T, c=_colors(truth), s=14, linewidths=0)
            _as_map(ax, points)
        above.set_title(title.replace(", ", "\n"), fontsize=9)
    for ax, text in zip(axes[:, 0], ("truth", "layout"), strict=True):
        ax.set_ylabel(text, fontsize=9)
    figure.savefig(path)
    plt.close(figure)
    return True


def _colors(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours by position, bilinear in four corners, ``(n, 3)``."""
    low, high = np.percentile(xy, [1, 99], axis=0)
    u, v = np.clip((xy - low) / np.maximum(high - low, 1e-12), 0.0, 1.0).T[:, :, None]
    bottom, top = ((1 - u) * _CORNERS[i] + u * _CORNERS[i + 1] for i in (0, 2))
    mixed: NDArray[np.float64] = (1 - v) * bottom + v * top
    return mixed


def _as_map(ax: Axes, xy: NDArray[np.float64]) -> None:
    """Equal units, no ticks, no frame."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.04 * float((high - low).max())
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), xticks=[], yticks=[])
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
