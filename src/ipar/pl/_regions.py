"""Sets of places of single cells over a layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ipar._anndata import region_keys
from ipar._docs import shared_docs
from ipar._options import Count, Positive
from ipar._public import public
from ipar.metrics import turned_onto
from ipar.pl._figure import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    dots,
    figure_of,
    finish,
    get_panels,
    panel_height,
)
from ipar.pl._read import finite_rows, layout, read_slide, run_record, stored_array
from ipar.pl._style import Style

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ipar.pl._figure import AxesLike

_REMEDY = "ipar.tl.predict_regions"
_CELL_COLORS = (BLUE, ORANGE, GREEN, VERMILLION)


@public
@shared_docs
def regions(
    adata: AnnData,
    cells: Sequence[str] | None = None,
    level: float = 0.8,
    *,
    use_rep: str = "X_ipar",
    spatial_key: str | None = "spatial",
    library_key: str | None = None,
    slide: str | None = None,
    n_grid: Count = 240,
    size: Positive | None = None,
    frameon: bool | None = None,
    title: str | Sequence[str] | None = None,
    ax: AxesLike | None = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> Figure | None:
    """Plot the regions of a few cells over the layout.

    Each region is a union of balls in the colour of its cell, drawn without inner outlines. Stars mark the cells in the
    layout. If true positions are known, crosses mark where the cells are: the truth is centred, scaled to the RMS radius of
    the layout, and turned or mirrored onto it. A cross outside its region is a miss, of which there should be 1 − `level`.

    Parameters
    ----------
    adata
        Cells after :func:`ipar.tl.predict_regions`.
    cells
        Names of up to four cells. By default those with the smallest and the largest regions and two between, by
        the radius and the spread of their places.
    level
        One of the levels that were predicted.
    use_rep
        Key in ``obsm`` of the layout. Regions are in ``obsm[use_rep + "_regions"]``.
    spatial_key
        Key in ``obsm`` of the true positions. If it is missing or None, no crosses are drawn.
    %(slide)s
    n_grid
        Points along each axis by which borders are found.
    %(size)s
    ax
        Axes to draw on instead of a new figure.
    %(show)s
    %(figure)s
    """
    style = Style(size, frameon, title)
    point = layout(adata, use_rep, "ipar.tl.predict_coords")[:, :2]
    places, radius = _read(adata, use_rep, level)
    rows, name, truth = read_slide(adata, point, spatial_key=spatial_key, library_key=library_key, slide=slide)
    rows = finite_rows(rows, radius[:, None])
    spread = np.sqrt(places[rows].var(axis=1).sum(axis=-1))
    chosen = rows[_chosen(adata, rows, cells, radius[rows] + spread)]
    where = None if truth is None else turned_onto(point[rows], truth[rows])[np.searchsorted(rows, chosen)]
    reach = [places[i] + sign * radius[i] for i in chosen for sign in (-1, 1)]
    everything = np.concatenate([point[rows], *reach, *([] if where is None else [where])])
    (axes,) = get_panels(ax, ["regions"], (4.2, panel_height(everything, 4.2)))
    style.map(axes, everything)
    style.name([axes], [f"{level:.0%} regions" if name is None else f"{name}: {level:.0%} regions"])
    style.dots(axes, point[rows], c=GREY, alpha=0.6, label="layout")
    for i, (color, cell) in enumerate(zip(_CELL_COLORS, chosen, strict=False)):
        _union(axes, places[cell], radius[cell], color, n_grid)
        dots(axes, point[cell][None], c=color, s=130, marker="*", edgecolors=INK, linewidths=0.8, zorder=4)
        if where is not None:
            axes.scatter(where[i, 0], where[i, 1], c=color, s=70, marker="X", edgecolors=INK, linewidths=0.8, zorder=5)
    return finish(figure_of([axes]), ax=ax, show=show, return_fig=return_fig)


def _read(adata: AnnData, use_rep: str, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places (n, K, 2) of every cell, and radii (n,) of a level."""
    keys = region_keys(use_rep)
    found = run_record(adata, "regions", _REMEDY)
    places, radii = (stored_array(adata, key, f"run {_REMEDY} first") for key in keys)
    levels = np.asarray(found["levels"], dtype=np.float64)
    if radii.shape != (adata.n_obs, len(levels)):
        msg = f"obsm[{keys[1]!r}] has shape {radii.shape}, but {len(levels)} levels are recorded: run {_REMEDY} again."
        raise ValueError(msg)
    same = np.flatnonzero(np.isclose(levels, level))
    if not len(same):
        msg = (
            f"level must be one of {levels.tolist()}, found {level}: run {_REMEDY}(..., levels=({level},)) for others."
        )
        raise ValueError(msg)
    return places.reshape(len(places), -1, 2), radii[:, same[0]]


def _chosen(
    adata: AnnData, rows: NDArray[np.intp], cells: Sequence[str] | None, size: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Positions, among the cells of the slide, of those whose regions are drawn."""
    if cells is None:
        order, last = np.argsort(size, kind="stable"), len(size) - 1
        return order[sorted({last, last * 2 // 3, last // 3, 0}, reverse=True)]
    if len(cells) > len(_CELL_COLORS):
        msg = f"Regions of at most {len(_CELL_COLORS)} cells can be drawn, found {len(cells)}: pass fewer."
        raise ValueError(msg)
    found = adata.obs_names[rows].get_indexer(list(cells))
    if (found < 0).any():
        missing = [cell for cell, place in zip(cells, found, strict=True) if place < 0]
        msg = f"the slide has no cells {missing}: pass names from adata.obs_names, or another slide."
        raise KeyError(msg)
    return np.asarray(found, dtype=np.intp)


def _union(axes: Axes, places: NDArray[np.float64], radius: float, color: str, n_grid: int) -> None:
    """The union of balls, by the contour of the distance to the nearest place."""
    low, high = places.min(axis=0) - 1.1 * radius, places.max(axis=0) + 1.1 * radius
    x, y = (np.linspace(a, b, n_grid) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(x, y), axis=-1)  # (n_grid, n_grid, 2)
    gap = np.min([np.linalg.norm(grid - place, axis=-1) for place in places], axis=0) - radius
    axes.contourf(x, y, gap, levels=[-np.inf, 0.0], colors=[color], alpha=0.22, zorder=2)
    axes.contour(x, y, gap, levels=[0.0], colors=[color], linewidths=1.2, zorder=3)
