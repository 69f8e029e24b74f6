"""Figures, axes and dots: what every picture shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

AxesLike: TypeAlias = "Axes | Sequence[Axes] | NDArray[Any]"

# Okabe-Ito, the palette that stays apart under every common colour vision deficiency
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK = "#BDBDBD", "#333333"

RASTER_ABOVE = 500
"""More dots than this are rasterised, so that a vector file stays small while its text stays text."""


def panel_height(xy: NDArray[np.float64], width: float) -> float:
    """Height in inches of a panel ``width`` inches wide that fits the extent of `xy` (n, 2) without white bands."""
    x, y = np.maximum(np.ptp(xy, axis=0), 1e-12)
    return float(width * np.clip(y / x, 0.45, 1.6))


def figure_of(axes: Sequence[Axes]) -> Figure:
    """Return the figure that the first of `axes` stands on, also when that is in a subfigure."""
    return axes[0].figure.figure


def given_axes(ax: AxesLike, names: Sequence[str]) -> list[Axes]:
    """Flatten `ax`, checking that it holds one axes for each of the panels called `names`."""
    axes = [ax] if isinstance(ax, Axes) else list(np.asarray(ax, dtype=object).ravel())
    if len(axes) != len(names) or not all(isinstance(one, Axes) for one in axes):
        msg = (
            f"ax holds {len(axes)} object(s), but this picture has {len(names)} panel(s) ({', '.join(names)}): "
            "pass as many matplotlib axes in that order, or leave ax=None."
        )
        raise ValueError(msg)
    return axes


def new_axes(names: Sequence[str], *, n_cols: int, panel: tuple[float, float], margin: float = 0.1) -> list[Axes]:
    """Make a figure with a grid of panels for `names`.

    Each is ``panel`` = (width, height) inches; ``margin`` inches are left on the right, for a legend or a colour bar.
    """
    import matplotlib.pyplot as plt  # late: pyplot picks a backend when it is imported

    n_cols = min(n_cols, len(names))
    n_rows = -(-len(names) // n_cols)
    size = (n_cols * panel[0] + margin, n_rows * (panel[1] + 0.25) + 0.3)
    figure, grid = plt.subplots(n_rows, n_cols, figsize=size, squeeze=False, layout="compressed")
    for spare in grid.ravel()[len(names) :]:
        spare.remove()
    return list(grid.ravel()[: len(names)])


def dot_size(ax: Axes, n: int) -> float:
    """Area in points² of a dot, such that `n` of them spread over `ax` almost touch; never less than about a pixel."""
    width, height = figure_of([ax]).get_size_inches()
    grid = ax.get_gridspec()
    n_rows, n_cols = (1, 1) if grid is None else (grid.nrows, grid.ncols)
    area = (width / n_cols) * (height / n_rows) * 72.0**2
    return float(np.clip(0.22 * area / max(n, 1), 0.6, 30.0))


def dots(ax: Axes, xy: NDArray[np.float64], **style: Any) -> Any:
    """Scatter `xy` (n, 2) on `ax` without edges; sized by :func:`dot_size`, rasterised when there are many."""
    options = {"s": dot_size(ax, len(xy)), "linewidths": 0, "rasterized": len(xy) > RASTER_ABOVE} | style
    return ax.scatter(xy[:, 0], xy[:, 1], **options)


def as_map(ax: Axes, xy: NDArray[np.float64]) -> None:
    """Turn `ax` into a map whose view holds `xy`: equal units, no ticks, no frame (a layout's axes mean nothing)."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.04 * max(float((high - low).max()), 1e-12)
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def as_chart(ax: Axes) -> None:
    """Leave of the frame of `ax` only the two axes that carry numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)


def finish(*, ax: AxesLike | None, show: bool | None, return_fig: bool) -> None:
    """Show what pyplot holds; by default (None) only a figure that the caller neither made nor asked for."""
    import matplotlib.pyplot as plt

    if (ax is None and not return_fig) if show is None else show:
        plt.show()
