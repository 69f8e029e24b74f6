"""Figures, axes and dots, shared by all plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from matplotlib.axes import Axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

AxesLike: TypeAlias = "Axes | Sequence[Axes] | NDArray[Any]"
Drawn = TypeVar("Drawn")

# Okabe-Ito, a palette that is safe for all common colour vision deficiencies
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
GREY, INK = "#BDBDBD", "#333333"


def panel_height(xy: NDArray[np.float64], width: float) -> float:
    """Height in inches of a panel of ``width`` inches that fits the extent of `xy` (n, 2)."""
    x, y = np.maximum(np.ptp(xy, axis=0), 1e-12)
    return float(width * np.clip(y / x, 0.45, 1.6))


def figure_of(axes: Sequence[Axes]) -> Figure:
    """Return the figure of the first of `axes`, also if that is in a subfigure."""
    return axes[0].figure.figure


def given_axes(ax: AxesLike, names: Sequence[str]) -> list[Axes]:
    """Flatten `ax` and check that it has one axes per panel in `names`."""
    axes = [ax] if isinstance(ax, Axes) else list(np.asarray(ax, dtype=object).ravel())
    if len(axes) != len(names) or not all(isinstance(one, Axes) for one in axes):
        msg = (
            f"ax has {len(axes)} object(s), but this plot has {len(names)} panel(s) ({', '.join(names)}): "
            "pass as many matplotlib axes in that order, or leave ax=None."
        )
        raise ValueError(msg)
    return axes


def get_axes(
    ax: AxesLike | None,
    names: Sequence[str | None],
    size: tuple[float, float],
    *,
    n_cols: int = 1,
    layout: str = "constrained",
) -> list[Axes]:
    """Return the axes that were given, or those of a new figure of ``size`` inches with a grid of panels for `names`.

    Places of the grid whose name is None stay empty.
    """
    import matplotlib.pyplot as plt  # late: pyplot picks a backend when it is imported

    if ax is not None:
        return given_axes(ax, [name for name in names if name is not None])
    n_cols = min(n_cols, len(names))
    n_rows = -(-len(names) // n_cols)
    _, grid = plt.subplots(n_rows, n_cols, figsize=size, squeeze=False, layout=layout)
    panels = list(zip(grid.ravel(), [*names, *[None] * (n_rows * n_cols - len(names))], strict=True))
    for spare in (panel for panel, name in panels if name is None):
        spare.remove()
    return [panel for panel, name in panels if name is not None]


def get_panels(
    ax: AxesLike | None,
    names: Sequence[str | None],
    panel: tuple[float, float],
    *,
    n_cols: int = 1,
    margin: float = 0.1,
) -> list[Axes]:
    """`get_axes` with panels of (width, height) inches, and a margin on the right for a legend or a colour bar."""
    n_cols = min(n_cols, len(names))
    size = (n_cols * panel[0] + margin, -(-len(names) // n_cols) * (panel[1] + 0.25) + 0.3)
    return get_axes(ax, names, size, n_cols=n_cols, layout="compressed")


def dot_size(ax: Axes, n: int) -> float:
    """Area of a dot in points², such that `n` dots spread over `ax` almost touch."""
    width, height = figure_of([ax]).get_size_inches()
    grid = ax.get_gridspec()
    n_rows, n_cols = (1, 1) if grid is None else (grid.nrows, grid.ncols)
    area = (width / n_cols) * (height / n_rows) * 72.0**2
    return float(np.clip(0.22 * area / max(n, 1), 0.6, 30.0))


def dots(ax: Axes, xy: NDArray[np.float64], **style: Any) -> Any:
    """Scatter `xy` (n, 2) on `ax` without edges, with :func:`dot_size`, rasterised if there are many."""
    options = {"s": dot_size(ax, len(xy)), "linewidths": 0, "rasterized": len(xy) > 500} | style
    return ax.scatter(xy[:, 0], xy[:, 1], **options)


def beside(ax: Axes, text: str, place: tuple[float, float], gap: float, fontsize: float) -> None:
    """Write `text` ``gap`` points to the right of a place."""
    ax.annotate(text, place, xytext=(gap, 0), textcoords="offset points", va="center", fontsize=fontsize, color=INK)


def as_map(ax: Axes, xy: NDArray[np.float64], *, frame: bool = False) -> None:
    """Turn `ax` into a map of `xy`: equal units, no ticks, and no frame unless asked for."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    margin = 0.04 * max(float((high - low).max()), 1e-12)
    ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(frame)
    ax.spines[:].set_linewidth(0.6)


def scale_bar(ax: Axes, width: float, micrometres: float) -> None:
    """Draw a bar of a round length, about a fifth of `width` units of so many micrometres each."""
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    about = max(0.2 * width * micrometres, 1e-9)
    power = 10.0 ** np.floor(np.log10(about))
    length = max(step * power for step in (1, 2, 5) if step * power <= about * 1.0001)
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    style: dict[str, Any] = {"frameon": False, "color": INK, "size_vertical": 0.006 * width, "pad": 0.1}
    bar = AnchoredSizeBar(ax.transData, length / micrometres, label, "lower left", **style)
    bar.txt_label.get_children()[0].set_fontsize(8)
    ax.add_artist(bar)


def linked(axes: Sequence[Axes]) -> None:
    """Let panels of one frame zoom and move together."""
    for ax in axes[1:]:
        ax.sharex(axes[0])
        ax.sharey(axes[0])


def as_chart(ax: Axes, *, frame: bool | None = None) -> None:
    """Give `ax` a frame on the left and below, all around, or none."""
    ax.spines[:].set_visible(bool(frame))
    if frame is None:
        ax.spines[["left", "bottom"]].set_visible(True)
    ax.tick_params(labelsize=8)


def finish(drawn: Drawn, *, ax: AxesLike | None, show: bool | None, return_fig: bool) -> Drawn | None:
    """Show what was drawn, by default only if the caller neither passed axes nor requests it; return it on request."""
    import matplotlib.pyplot as plt

    if (ax is None and not return_fig) if show is None else show:
        plt.show()
    return drawn if return_fig else None
